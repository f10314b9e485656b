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

from perfsuite.plugin.fixtures import callable_case, gate_item
from perfsuite.plugin.matrix import marked_limits
from perfsuite.plugin.state import is_worker, session_of
from perfsuite.session.measurable import CallableCase


class GatedBenchmark(BenchmarkFixture):
    """The fixture of one test, which hands on what it is called with and what it has timed."""

    gate: Callable[[partial[Any], Sequence[float]], None]

    def __call__(self, function_to_benchmark: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        call = partial(function_to_benchmark, *args, **kwargs)
        time = partial(super().__call__, function_to_benchmark, *args, **kwargs)
        return self._gated(call, time)

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
        if setup or teardown:
            pytest.fail(
                f"{self.fullname}: benchmark.pedantic(setup=...) gives each call inputs of its own, which fresh "
                "processes cannot time without their making\n  remedy: make the inputs before the call, or take the "
                "marker perf from this test",
                pytrace=False,
            )
        call = partial(target, *args, **kwargs or {})
        how = {"rounds": rounds, "warmup_rounds": warmup_rounds, "iterations": iterations}
        return self._gated(call, partial(super().pedantic, target, args, kwargs, **how))

    def _gated(self, call: partial[Any], time: Callable[[], Any]) -> Any:
        if is_worker():  # the session that started it asks for samples, not for pytest-benchmark's
            self.gate(call, ())
            return call()
        result = time()
        seconds = self.stats.stats.data if self.stats else ()  # none with --benchmark-disable
        self.gate(call, [1e9 * one for one in seconds])
        return result


def watch(item: pytest.Item) -> None:
    """From now on the item's fixture ``benchmark`` hands on what it times."""
    fixture = item.funcargs["benchmark"]  # type: ignore[attr-defined]  # of functions, which alone have fixtures
    if issubclass(type(fixture), BenchmarkFixture):  # a pretender says otherwise of its __class__
        fixture.__class__ = GatedBenchmark  # whoever holds the fixture already, such as another fixture, is heard, too
        cast(GatedBenchmark, fixture).gate = partial(_gate, item)


def _gate(item: pytest.Item, call: partial[Any], timed_ns: Sequence[float]) -> None:
    subject = CallableCase(callable_case(item, call.func, call.args, 1), call, timed_ns)
    gate_item(item, session_of(item.config), subject, marked_limits(item))
