"""Calls that are made again and again: fresh state before each, outside of the time, and what later calls raise."""

import itertools
import re
from collections import Counter

import pytest

from perfsuite.errors import NotRepeatableError
from perfsuite.measure.clock import SimulatedClock
from perfsuite.measure.latency import Plan, sample_block
from perfsuite.measure.profile import profile
from perfsuite.measure.repeatable import Repeatable, arguments_of, prepared

MS = 1_000_000


@pytest.mark.parametrize(
    ("made", "args", "kwargs"),
    [
        (None, (), {}),
        ([3, 1], ([3, 1],), {}),
        ({"a": 1}, ({"a": 1},), {}),
        ((1, 2), (1, 2), {}),
        ((1,), (1,), {}),
        ((), (), {}),
        (((1, 2), {"a": 3}), (1, 2), {"a": 3}),
        (([1, 2], {}), (1, 2), {}),
        ((1, {}), (1, {}), {}),
    ],
)
def test_what_a_setup_returns_are_the_arguments(made, args, kwargs):
    assert arguments_of(made) == (args, kwargs)


class Work:
    """Its setup takes 3 ms, a call 1 ms, its teardown 7 ms; each call uses up what was made for it."""

    def __init__(self):
        self.clock = SimulatedClock()
        self.numbers = itertools.count()
        self.count = Counter()
        self.used = []

    def setup(self):
        self.clock.advance_ns(3 * MS)
        self.count["setup"] += 1
        return next(self.numbers)

    def __call__(self, number):
        self.clock.advance_ns(MS)
        self.count["call"] += 1
        self.used.append(number)

    def teardown(self, number):
        self.clock.advance_ns(7 * MS)
        self.count["teardown"] += 1
        assert self.used[-1] == number

    def sample(self, **plan):
        arms = {"a": Repeatable(self, self.setup, self.teardown), "b": lambda: self.clock.advance_ns(2 * MS)}
        return sample_block(arms, seed=0, fresh=True, threads=1, plan=Plan(**plan), clock=self.clock)


def test_each_call_has_what_was_made_for_it_and_only_the_call_is_timed():
    work = Work()
    block = work.sample(rounds=4)
    assert set(block.of("a")) == {MS}
    assert set(block.of("b")) == {2 * MS}
    assert work.used == list(range(len(work.used)))
    assert len(set(work.count.values())) == 1


def test_what_is_made_counts_in_what_a_chunk_may_take():
    """44 ms hold four calls of 11 ms; a fifth is dropped."""
    chunks = [chunk for chunk in Work().sample(rounds=4, chunk_ns=44 * MS).chunks if chunk.arm == "a"]
    assert {len(chunk.calls_ns) for chunk in chunks} == {4}


def test_fast_calls_with_a_setup_are_timed_one_by_one():
    clock, made, sizes = SimulatedClock(), [], []

    def setup():
        made.append([])
        clock.advance_ns(100)
        return (made[-1],)

    def call(state):
        state.append(1)
        sizes.append(len(state))
        clock.advance_ns(50)

    block = sample_block(
        {"a": Repeatable(call, setup)}, seed=0, fresh=True, threads=1, plan=Plan(rounds=2, chunk_ns=15_000), clock=clock
    )
    assert set(block.of("a")) == {50}
    assert {len(chunk.calls_ns) for chunk in block.chunks} == {100}
    assert set(sizes) == {1}


def test_a_slow_setup_makes_a_chunk_of_one_call_and_drops_none():
    work = Work()
    assert len(work.sample(rounds=2, slow_call_ns=11 * MS, warmup_ns=1).of("a")) == 2
    assert work.count["call"] == 1 + 2  # to warm up, and a chunk in each round


def fails_at(number, error):
    calls = itertools.count(1)

    def call():
        if next(calls) >= number:
            raise error

    return call


def test_the_first_call_raises_what_it_raises():
    for error in (KeyError(1), StopIteration()):
        with pytest.raises(type(error)) as caught:
            Repeatable(fails_at(1, error))()
        assert caught.value is error


@pytest.mark.parametrize("error", [KeyError("seen"), StopIteration(), RuntimeError("gone\nmore"), SystemExit(2)])
def test_a_later_call_that_raises_says_which_and_what(error):
    call = Repeatable(fails_at(3, error))
    call()
    call()
    with pytest.raises(NotRepeatableError) as caught:
        call()
    named = type(error).__name__
    assert caught.value.what.startswith(f"it cannot be repeated: call 3 raised {named}")
    assert re.search(r" \(test_repeatable\.py:\d+, in call\)$", caught.value.what)
    assert "\n" not in caught.value.what
    assert "perf(function, setup=make)" in caught.value.remedy
    assert caught.value.__cause__ is error


def test_ctrl_c_is_no_error_of_the_callable():
    with pytest.raises(KeyboardInterrupt):
        Repeatable(fails_at(1, KeyboardInterrupt()), made=5)()


@pytest.mark.parametrize("at", [2, 12, 20_000])
def test_so_it_does_while_it_is_sampled(at):
    clock, numbers = SimulatedClock(), iter(range(at))

    def call():
        clock.advance_ns(1000)
        next(numbers)

    with pytest.raises(NotRepeatableError, match=r"call(s [\d,]+ to)? [\d,]+ raised StopIteration") as caught:
        sample_block({"a": Repeatable(call)}, seed=0, fresh=False, threads=1, plan=Plan(warmup_ns=1), clock=clock)
    words = caught.value.what.replace(",", "").split()
    first, last = sorted(int(word) for word in words if word.isdecimal()) * (2 if "call" in words else 1)
    assert first <= at + 1 <= last


def test_teardown_is_not_called_after_an_error():
    torn = []
    with pytest.raises(ZeroDivisionError):
        Repeatable(lambda: 1 / 0, teardown=lambda: torn.append(1))()
    assert torn == []


def test_a_plain_callable_is_ready_as_it_is():
    with prepared(len, 3) as call:
        assert call is len


def test_what_a_setup_asks_of_torch_is_not_recorded_and_what_it_made_is_in_the_peak():
    import torch

    from perfsuite.measure.trace import trace

    def setup():
        return torch.ones(1000) + 1 - 1

    found = trace(Repeatable(torch.relu, setup))
    assert found.operators == {"aten::relu": 1}
    assert found.peak_bytes == 2 * 4000


def test_nor_is_it_profiled():
    import torch

    spent = profile(Repeatable(torch.relu, lambda: torch.ones(1000).cos()))
    assert "aten::relu" in spent
    assert "aten::cos" not in spent
