import dataclasses
import gc
import math
import random
import statistics
from collections import Counter
from itertools import groupby, pairwise

import pytest

from perfsuite.errors import UnknownNameError
from perfsuite.measure.clock import SimulatedClock
from perfsuite.measure.latency import Plan, sample_block
from perfsuite.measure.yardstick import INTERPRETER, TRANSFORMER, yardstick
from perfsuite.stats.blocks import block_effect

MS = 1_000_000


def sample(clock, arms, **kwargs):
    return sample_block(arms, seed=kwargs.pop("seed", 0), fresh=False, threads=1, clock=clock, plan=Plan(**kwargs))


def worker(clock, duration_ns):
    return lambda: clock.advance_ns(duration_ns)


def test_every_arm_gets_the_same_number_of_chunks_with_its_own_time():
    clock = SimulatedClock()
    block = sample(clock, {"a": worker(clock, 5 * MS), "b": worker(clock, 10 * MS)}, rounds=6)
    assert Counter(chunk.arm for chunk in block.chunks) == {"a": 6, "b": 6}
    assert set(block.of("a")) == {5 * MS}
    assert set(block.of("b")) == {10 * MS}
    assert block.warm


def test_two_arms_alternate_and_turn_around_after_the_first_round_and_then_every_six():
    clock = SimulatedClock()
    arms = {name: worker(clock, MS) for name in "ab"}

    def turns(seed):
        return "".join(chunk.arm for chunk in sample(clock, arms, rounds=18, seed=seed).chunks)

    assert {turns(seed) for seed in range(10)} == {
        "ab" "babababababa" "abababababab" "bababababa",
        "ba" "abababababab" "babababababa" "ababababab",
    }  # fmt: skip
    assert turns(3) == turns(3)


def test_orders_of_three_are_mirrored_and_drawn_from_the_seed():
    clock = SimulatedClock()
    arms = {name: worker(clock, MS) for name in "abc"}

    def orders(seed):
        names = [chunk.arm for chunk in sample(clock, arms, rounds=8, seed=seed).chunks]
        return [tuple(names[i : i + 3]) for i in range(0, len(names), 3)]

    for first, second in list(pairwise(orders(3)))[::2]:
        assert second == first[::-1]
    assert orders(3) == orders(3)
    assert len({tuple(orders(seed)) for seed in range(10)}) > 1


def test_the_first_call_of_a_chunk_is_dropped():
    """A workload that is cold after another arm ran: ten times slower once."""
    clock = SimulatedClock()
    last = []

    def arm(name):
        def call():
            clock.advance_ns(MS if last[-1:] == [name] else 10 * MS)
            last.append(name)

        return call

    block = sample(clock, {"a": arm("a"), "b": arm("b")}, rounds=4)
    assert set(block.of("a")) | set(block.of("b")) == {MS}


@pytest.mark.parametrize(
    ("call_ms", "colder", "max_cold", "counts_first"),
    [
        (8, {"a": 1.02, "b": 1.02}, 0.03, True),
        (8, {"a": 1.02, "b": 1.04}, 0.03, False),  # in one arm they are slower than that
        (4, {"a": 1.02, "b": 1.02}, 0.03, False),  # a third of all calls
        (8, {"a": 1.0, "b": 1.0}, 0.0, False),  # not asked for
    ],
)
def test_a_first_call_counts_where_it_is_half_of_the_time_and_hardly_slower(call_ms, colder, max_cold, counts_first):
    clock, last = SimulatedClock(), []

    def arm(name):
        def call():
            clock.advance_ns(round(call_ms * MS * (1 if last[-1:] == [name] else colder[name])))
            last.append(name)

        return call

    block = sample(clock, {"a": arm("a"), "b": arm("b")}, rounds=20, max_cold=max_cold)
    typical = {name: statistics.median(block.of(name)) for name in "ab"}
    assert typical == {name: call_ms * MS * (colder[name] if counts_first else 1) for name in "ab"}
    untypical = [ns for name in "ab" for ns in block.of(name) if ns != typical[name]]
    # After calls of the arm itself: where the arms turn around, and at the start, after warming up.
    assert len(untypical) == (5 if counts_first else 0)
    in_a_row = [len(list(group)) for _, group in groupby(last)]
    assert statistics.mode(in_a_row[-12:]) == (1 if counts_first else 1 + 10 // call_ms)  # of the last of 40 turns


def test_fast_calls_are_timed_together_and_slow_ones_get_their_minimum():
    clock = SimulatedClock()
    calls = Counter()

    def fast():
        calls["fast"] += 1
        clock.advance_ns(100)

    block = sample(clock, {"fast": fast}, rounds=2)
    assert set(block.of("fast")) == {100}
    assert calls["fast"] > 200 * len(block.of("fast")) / 2
    slow = sample(clock, {"slow": worker(clock, 900 * MS)}, rounds=2)
    assert len(slow.of("slow")) == 2
    assert len(sample(clock, {"slow": worker(clock, 900 * MS)}, rounds=2, min_calls=3).of("slow")) == 6


def test_the_budget_stops_in_balance():
    clock = SimulatedClock()
    arms = {"a": worker(clock, 500 * MS), "b": worker(clock, 500 * MS)}
    block = sample(clock, arms, rounds=100, budget_ns=5_000 * MS)
    counts = Counter(chunk.arm for chunk in block.chunks)
    assert counts["a"] == counts["b"]
    assert counts["a"] % 2 == 0
    assert counts["a"] < 10


@pytest.mark.parametrize(("call_ms", "rounds"), [(20, 38), (100, 8), (200, 6), (400, 4), (1500, 2)])
def test_a_few_rounds_may_take_two_budgets(call_ms, rounds):
    """A chunk is two calls, one of them dropped: 20 ms make 0.08 s of a round, 1.5 s make 6 s."""
    clock = SimulatedClock()
    arms = {"a": worker(clock, call_ms * MS), "b": worker(clock, call_ms * MS)}
    block = sample(clock, arms, rounds=60, budget_ns=3_000 * MS, min_rounds=6)
    assert Counter(chunk.arm for chunk in block.chunks) == {"a": rounds, "b": rounds}


def test_a_block_knows_how_long_it_took_with_its_warm_up():
    clock = SimulatedClock()
    block = sample(clock, {"a": worker(clock, 500 * MS)}, rounds=2, warmup_ns=MS)
    assert block.seconds == (3 + 2 * 2) * 0.5  # to warm up, and chunks of a dropped call and a timed one


def test_layouts_share_the_rounds_the_budget_and_the_precision_of_a_plan():
    whole = Plan(rounds=60, budget_ns=3 * MS, precision=0.003)
    part = whole.in_layouts(4)
    assert (part.layouts, part.rounds, part.budget_ns, part.precision) == (4, 16, 750_000, pytest.approx(0.006))
    assert dataclasses.replace(part, layouts=1, rounds=60, budget_ns=3 * MS, precision=0.003) == whole


def test_a_block_of_nothing_is_empty():
    """As where another tool has timed all that there is to time."""
    assert sample(SimulatedClock(), {}, precision=0.01).chunks == ()


def jittery(clock, duration_ns, share, seed):
    rng = random.Random(seed)
    return lambda: clock.advance_ns(round(duration_ns * math.exp(rng.gauss(0, share))))


@pytest.mark.parametrize(
    ("share", "at_least", "at_most"),
    [
        (0.0, 12, 12),
        (0.01, 12, 20),
        (0.03, 30, 100),
        (0.05, 110, 140),
        (0.06, 140, 150),
        (0.2, 280, 300),
        (0.5, 250, 300),
    ],
)
@pytest.mark.parametrize("what_ends", ["rounds", "time"])
def test_a_block_ends_by_how_precise_it_is_and_in_balance(what_ends, share, at_least, at_most):
    """A chunk is one call of 10 ms: the median of n ratios has an error of about share * sqrt(2 * pi / 2 / n).

    For 5% that is 0.006 shortly before 150 rounds; for 6% it is more then, but by less than a half; for 20% by more.
    """
    clock = SimulatedClock()
    arms = {"a": jittery(clock, 10 * MS, share, 1), "b": jittery(clock, 10 * MS, share, 2)}
    ends = {"rounds": 150} if what_ends == "rounds" else {"rounds": 10_000, "budget_ns": 150 * 40 * MS}
    block = sample(clock, arms, precision=0.006, warmup_ns=0, **{"budget_ns": 10**12, **ends})
    counts = Counter(chunk.arm for chunk in block.chunks)
    assert counts["a"] == counts["b"]
    assert counts["a"] % 2 == 0
    assert at_least <= counts["a"] <= at_most
    assert (block_effect(block, "a", "b").se <= 0.006) is (share < 0.06)
    assert (block_effect(block, "a", "b").se <= 0.009) is (share < 0.2)


def test_every_ratio_to_the_first_arm_has_to_be_precise():
    clock = SimulatedClock()
    arms = {name: jittery(clock, 10 * MS, share, 3) for name, share in (("a", 0.0), ("b", 0.0), ("c", 0.5))}
    assert len(sample(clock, arms, rounds=30, budget_ns=10**12, precision=0.01).chunks) == 2 * 90
    del arms["c"]
    assert len(sample(clock, arms, rounds=30, budget_ns=10**12, precision=0.01).chunks) == 24


@pytest.mark.parametrize(("names", "precision"), [("ab", 0.0), ("a", 1.0)])
def test_without_a_precision_or_a_ratio_a_block_has_all_its_rounds(names, precision):
    clock = SimulatedClock()
    arms = {name: worker(clock, 10 * MS) for name in names}
    block = sample(clock, arms, rounds=30, budget_ns=10**12, precision=precision)
    assert len(block.chunks) == 30 * len(names)


def test_warm_up_goes_on_until_the_time_is_stable_and_says_if_it_never_was():
    clock = SimulatedClock()
    durations = iter([50, 40, 30, 20, 10] + [5] * 1000)
    block = sample(clock, {"a": lambda: clock.advance_ns(next(durations) * MS)}, rounds=2)
    assert set(block.of("a")) == {5 * MS}
    growing = iter(range(1, 10_000))
    assert not sample(clock, {"a": lambda: clock.advance_ns(next(growing) ** 3 * MS)}, rounds=2).warm


def test_garbage_collection_is_off_while_sampling_and_restored_also_after_an_error():
    clock = SimulatedClock()
    seen = set()

    def arm():
        seen.add(gc.isenabled())
        clock.advance_ns(MS)

    sample(clock, {"a": arm}, rounds=2)
    assert seen == {False}
    assert gc.isenabled()

    def broken():
        raise RuntimeError("the model broke")

    with pytest.raises(RuntimeError, match="the model broke"):
        sample(clock, {"a": broken})
    assert gc.isenabled()


@pytest.mark.parametrize("name", [TRANSFORMER, INTERPRETER])
def test_yardsticks_run_and_do_the_same_each_time(name):
    first, second = yardstick(name)(), yardstick(name)()
    assert bool((first == second).all()) if name == TRANSFORMER else first == second


def test_an_unknown_yardstick_is_named():
    with pytest.raises(UnknownNameError, match="yardstick 'transformer-layer-9'"):
        yardstick("transformer-layer-9")
