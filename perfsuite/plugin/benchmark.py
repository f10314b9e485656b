"""pytest-benchmark's fixture in a test with the marker perf: what it has timed is gated, too.

Its rounds are the first look. Where they cannot acquit, fresh processes run the test up to its call of
``benchmark`` and sample the callable there, as they do for ``perf`` and beside a base revision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from perfsuite._compat.pytest import benchmarked_s
from perfsuite.measure.repeatable import FRESH_STATE, Repeatable
from perfsuite.plugin.fixtures import callable_case, gate_item, told
from perfsuite.plugin.matrix import marked_limits
from perfsuite.plugin.sessions import session_of
from perfsuite.plugin.state import is_worker
from perfsuite.session.callables import EventLoop, check_done, is_asynchronous
from perfsuite.session.measurable import CallableCase


class GatedBenchmark(BenchmarkFixture):
    """The fixture of one test, which hands on what it is called with and what it has timed."""

    gate: Callable[[partial[Any], Repeatable, Sequence[float]], None]
    item: pytest.Item

    def __call__(self, function_to_benchmark: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        benchmark = super().__call__
        with told(self.item), EventLoop() as loop:
            work = _whole(loop, function_to_benchmark)
            return self._gated(partial(work, *args, **kwargs), partial(benchmark, work, *args, **kwargs))

    def pedantic(
        self,
        target: Callable[..., Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        setup: Callable[[], Any] | None = None,
        teardown: Callable[..., Any] | None = None,
        rounds: int = 1,
        warmup_rounds: int = 0,
        iterations: int = 1,
    ) -> Any:
        def made() -> tuple[tuple[Any, ...], dict[str, Any]]:
            given = setup() if setup else None  # which may return nothing
            more, named = given or (args, kwargs or {})
            return tuple(more), dict(named)

        how = {"rounds": rounds, "warmup_rounds": warmup_rounds, "iterations": iterations}
        pedantic = super().pedantic
        with told(self.item), EventLoop() as loop:
            work = _whole(loop, target)
            making = {} if setup is None and teardown is None else {"setup": made, "teardown": teardown}
            call = partial(work) if making else partial(work, *args, **kwargs or {})
            return self._gated(call, partial(pedantic, work, args, kwargs, setup, teardown, **how), **making)

    def _gated(self, call: partial[Any], time: Callable[[], Any], **making: Any) -> Any:
        if is_worker():  # the session that started it asks for samples, not for pytest-benchmark's
            result = Repeatable(call, **making)()
        else:
            result = time()
            check_done(result)
        self.gate(
            call, Repeatable(call, **making, remedy=_FRESH_STATE, made=1), [1e9 * one for one in benchmarked_s(self)]
        )
        return result


_FRESH_STATE = FRESH_STATE.replace("perf(function, ", "benchmark.pedantic(function, ")


def _whole(loop: EventLoop, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, awaited if a call of it would only make a coroutine."""
    return loop.awaiting(function) if is_asynchronous(function) else function


def watch(item: pytest.Item) -> None:
    """From now on the item's fixture ``benchmark`` hands on what it times."""
    fixture = item.funcargs["benchmark"]  # type: ignore[attr-defined]  # of functions, which alone have fixtures
    if issubclass(type(fixture), BenchmarkFixture):  # a pretender says otherwise of its __class__
        fixture.__class__ = GatedBenchmark  # whoever holds the fixture already, such as another fixture, is heard, too
        gated = cast(GatedBenchmark, fixture)
        gated.item, gated.gate = item, partial(_gate, item)


def _gate(item: pytest.Item, named: partial[Any], call: Repeatable, timed_ns: Sequence[float]) -> None:
    subject = CallableCase(callable_case(item, named.func, named.args, 1), call, timed_ns)
    gate_item(item, session_of(item.config), subject, marked_limits(item))
