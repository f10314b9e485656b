"""Which test has left which of torch's switches other than it found it: fresh processes do not have that.

What a fixture sets that a test uses is there in a fresh process, too; it is no leak for that test.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from perfsuite.measure.switches import first_switches, read_switches

_LEAKS = pytest.StashKey["Leaks"]()


@dataclass(frozen=True)
class _Left:
    """By a test's body, or by a fixture: that is on purpose for all who use it."""

    value: Any
    instead: Any
    test: str
    fixture: pytest.FixtureDef[Any] | None = None

    def is_own(self, item: pytest.Item) -> bool:
        fixture = self.fixture
        used = getattr(item, "fixturenames", ())
        return fixture is not None and fixture.argname in used and item.nodeid.startswith(fixture.baseid)

    def sentence(self, name: str) -> str:
        who = f"the fixture {self.fixture.argname!r}" if self.fixture else self.test
        return (
            f"{who} left torch's {name} at {self.value} ({self.instead} before): tests after it were measured in fresh "
            "processes, which do not have that; restore it at the end of the test"
        )


class Leaks:
    """Watches the tests of a session that has performance tests."""

    def __init__(self) -> None:
        self._seen = read_switches()
        self._left: dict[str, _Left] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, object, object]:
        try:
            return (yield)
        finally:
            self._note("", fixture=fixturedef)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        try:
            return (yield)
        finally:
            self._note(item.nodeid)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        try:
            return (yield)
        finally:
            self._note(item.nodeid, ends=True)

    def of(self, item: pytest.Item) -> Iterator[str]:
        """What is in force at this moment of the item's call and would not be in a fresh process."""
        now = read_switches()
        for name, left in self._left.items():
            if now.get(name) == left.value and not left.is_own(item):
                yield left.sentence(name)

    def _note(self, test: str, *, fixture: pytest.FixtureDef[Any] | None = None, ends: bool = False) -> None:
        now = read_switches()
        if now != self._seen:
            before = first_switches() | self._seen  # torch may have been imported since
            changed = {name: before[name] for name in now if name in before and now[name] != before[name]}
            for name, was in changed.items():
                self._keep(name, _Left(now[name], self._instead(name, was, fixture is not None or ends), test, fixture))
        self._seen = now

    def _instead(self, name: str, was: Any, by_fixture: bool) -> Any:
        """What it would be if nobody had left it. A test's body is to leave what its fixtures have set."""
        left = self._left.get(name)
        return was if left is None or (left.fixture and not by_fixture) else left.instead

    def _keep(self, name: str, left: _Left) -> None:
        self._left.pop(name, None)
        if left.value != left.instead:
            self._left[name] = left


class NoLeaks:
    """In a worker, where one process serves all tests: what a test's body leaves ends with it."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Generator[None, object, object]:
        from perfsuite.executors.settings import ProcessSettings

        before = ProcessSettings.now()
        try:
            return (yield)
        finally:
            before.restore()


def watch(config: pytest.Config, *, worker: bool) -> None:
    """From now on leaks are seen or, in a worker, undone."""
    if worker:
        config.pluginmanager.register(NoLeaks())
    else:
        config.stash[_LEAKS] = Leaks()
        config.pluginmanager.register(config.stash[_LEAKS])


def leaks_of(item: pytest.Item) -> tuple[str, ...]:
    watching = item.config.stash.get(_LEAKS, None)
    return tuple(watching.of(item)) if watching else ()
