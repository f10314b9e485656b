"""A time that grows with the calls is seen, and steady code never is, whatever the machine does."""

import math
import random

import pytest

from perfsuite.measure.clock import SimulatedClock
from perfsuite.measure.latency import Plan, sample_block
from perfsuite.spec import Block, Chunk
from perfsuite.stats.drift import drift
from tests.stats.simulated import KINDS, draw

MS = 1_000_000
SESSIONS = 100


def sampled(cost, clock=None, other=MS, seed=0, **plan):
    """A block of "a", whose n-th call takes ``cost(n)`` ns, beside "b"."""
    clock, calls = clock or SimulatedClock(), []

    def a():
        calls.append(1)
        clock.advance_ns(cost(len(calls)))

    plan = Plan(**{"rounds": 12, "chunk_ns": 5 * MS, "warmup_ns": 10 * MS, **plan})
    arms = {"a": a, "b": lambda: clock.advance_ns(other() if callable(other) else other)}
    return sample_block(arms, seed=seed, fresh=True, threads=1, plan=plan, clock=clock)


def of_chunks(a, b):
    """One chunk of one call of each arm in each round."""
    turns = [Chunk(arm, (time,)) for times in zip(a, b, strict=True) for arm, time in zip("ab", times, strict=True)]
    return Block(tuple(turns), 0, fresh=True, threads=1)


def test_what_grows_is_seen_beside_a_steady_arm_and_by_itself():
    growing = sampled(lambda call: MS * call**2 / 10)
    assert drift([growing], "a", "b") == pytest.approx(drift([growing], "a"), rel=0.01)
    assert drift([growing], "a", "b") > 2
    assert drift([growing], "b", "a") is None
    assert drift([growing], "b") is None


def test_what_grows_so_fast_that_there_are_few_chunks_is_seen_within_them():
    growing = sampled(lambda call: 500 * call, rounds=60, budget_ns=20 * MS)
    assert len([chunk for chunk in growing.chunks if chunk.arm == "a"]) < 12
    assert drift([growing], "a", "b") > 2


def test_slow_calls_that_grow_are_seen_once_there_are_several_blocks():
    block = of_chunks([MS * (1 + number / 3) for number in range(6)], [MS] * 6)
    assert drift([block], "a", "b") is None
    assert drift([block] * 3, "a", "b") == pytest.approx(math.sqrt((7 / 3) * (8 / 3) / (1 * (4 / 3))))


@pytest.mark.parametrize("noise", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("chunk", [0.02, 0.15])
def test_noise_is_never_drift(noise, chunk):
    """Blocks of six and of sixty rounds; also those that are pooled."""
    for rounds in (6, 60):
        blocks = draw(1, SESSIONS, noise=noise, chunk=chunk, rounds=rounds, between=0.1)
        assert not any(drift([block], arm, beside) for block in blocks for arm, beside in ("ab", "ba"))
        assert not any(drift(blocks[start : start + 5], "a", "b") for start in range(0, SESSIONS, 5))


def steady(rng, share):
    return lambda call: MS * math.exp(rng.gauss(0, share))


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_sessions_of_steady_noise_are_never_drift(share):
    """Through the sampling itself, on a clock that is handed in."""
    for seed in range(SESSIONS):
        rng = random.Random(seed)
        block = sampled(steady(rng, share), other=lambda rng=rng: steady(rng, share)(0), seed=seed)
        assert drift([block], "a", "b") is None
        assert drift([block], "a") is None


class Machine(SimulatedClock):
    """A clock of a machine whose speed changes with the time: ``slow(share of a second)`` is the factor."""

    def __init__(self, slow):
        super().__init__()
        self.slow = slow

    def advance_ns(self, duration_ns):
        super().advance_ns(duration_ns * self.slow(self.time_ns / 1e9))


@pytest.mark.parametrize(
    "slow",
    [lambda t: 1 + 5 * t, lambda t: 3 - 10 * t if t < 0.2 else 1, lambda t: 1 if t < 0.15 else 1.9],
    ids=["the clock is lowered all the time", "everything warms up", "a neighbour arrives"],
)
def test_what_the_machine_does_to_both_is_no_drift(slow):
    for seed in range(30):
        rng = random.Random(seed)
        assert drift([sampled(steady(rng, 0.02), Machine(slow), seed=seed)], "a", "b") is None


def test_a_step_is_no_drift_also_if_only_one_arm_sees_it():
    """A neighbour that takes the memory bandwidth that one arm needs."""
    for at in range(1, 60):
        assert drift([of_chunks([MS] * at + [1.9 * MS] * (60 - at), [MS] * 60)], "a", "b") is None


def test_a_warm_up_that_takes_all_the_time_is_no_drift():
    assert drift([sampled(lambda call: MS * (1 + 3 / call))], "a", "b") is None


@pytest.mark.parametrize(("beside", "least"), [("b", 1.5), ("", 3.0)])
def test_growth_below_the_least_is_tolerated(beside, least):
    def block(growth):  # from the middle of the first third to that of the last
        return of_chunks([MS * growth ** ((number - 9.5) / 40) for number in range(60)], [MS] * 60)

    assert drift([block(least * 0.98)], "a", beside) is None
    assert drift([block(least * 1.02)], "a", beside) == pytest.approx(least * 1.02)


def test_exactly_half_as_long_again_is_growth():
    """The median of the first 21 chunks is 1 ns beside 1 ns, and that of the last 21 is 1.5 ns."""
    first, last = ([middle + 0.01 * number for number in range(-10, 11)] for middle in (1.0, 1.5))
    between = [1.2 + 0.005 * number for number in range(21)]
    assert drift([of_chunks([*first, *between, *last], [1.0] * 63)], "a", "b") == pytest.approx(1.5)


def with_earlier_longer(pairs, number=25):
    """Times that double, of which so many pairs are in the wrong order: the first is exchanged with later ones."""
    times = [2.0**step for step in range(number)]
    for index in range(number):
        moved = min(pairs, number - 1 - index)
        times.insert(index, times.pop(index + moved))
        pairs -= moved
        if not pairs:
            return times
    raise ValueError(pairs)


@pytest.mark.parametrize(("wrong", "seen"), [(45, True), (46, False)])
def test_seven_in_ten_is_the_least_tau(wrong, seen):
    """Of 300 pairs of 25 chunks: 255 in order less 45 that are not are 210."""
    times = with_earlier_longer(wrong)
    pairs = [later > earlier for number, later in enumerate(times) for earlier in times[:number]]
    assert (pairs.count(True), pairs.count(False)) == (300 - wrong, wrong)
    block = of_chunks(times, [1.0] * 25)
    assert (drift([block], "a", "b") is not None) is seen


@pytest.mark.parametrize(("wrong", "seen"), [(0, True), (1, False)])
def test_four_standard_deviations_are_the_least_score(wrong, seen):
    """Kendall's variance is n(n - 1)(2n + 5)/18: 65 1/3 of 8 chunks and 8 2/3 of 4, so 10^2 of 8, 4, 4, 4 and 4.

    Of their 52 pairs 46 in order less 6 that are not are 40.
    """
    long, *short = with_earlier_longer(6 + wrong, 8), *[with_earlier_longer(0, 4)] * 4
    assert (drift([of_chunks(times, [1.0] * len(times)) for times in (long, *short)], "a", "b") is not None) is seen


def test_blocks_of_three_chunks_count_once_there_are_seven_and_of_two_never():
    """Each adds 3 to the score and 3 2/3 to its variance: 4 standard deviations are 18.8 of six, 20.3 of seven."""
    three, two = (of_chunks([MS * 2**number for number in range(count)], [MS] * count) for count in (3, 2))
    assert drift([three] * 6, "a", "b") is None
    assert drift([three] * 7, "a", "b") == pytest.approx(4)
    assert drift([two] * 50, "a", "b") is None


def test_one_chunk_of_24_calls_is_looked_at_call_by_call():
    """1 to 24 ms: the median of the first eight is between 4 and 5, that of the last between 20 and 21."""
    block = Block((Chunk("a", tuple(MS * (1.0 + number) for number in range(24))),), 0, fresh=True, threads=1)
    assert drift([block], "a") == pytest.approx(math.sqrt(20 * 21 / (4 * 5)))


def test_a_reference_that_gets_faster_is_no_drift():
    assert drift([of_chunks([MS] * 60, [MS / 1.02**number for number in range(60)])], "a", "b") is None


@pytest.mark.parametrize("beside", ["", "b", "nobody"])
def test_what_was_hardly_sampled_or_not_at_all_shows_no_drift(beside):
    assert drift([], "a", beside) is None
    assert drift([of_chunks([MS], [MS]), of_chunks([], [])], "a", beside) is None
