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


def test_a_reference_that_gets_faster_is_no_drift():
    assert drift([of_chunks([MS] * 60, [MS / 1.02**number for number in range(60)])], "a", "b") is None


@pytest.mark.parametrize("beside", ["", "b", "nobody"])
def test_what_was_hardly_sampled_or_not_at_all_shows_no_drift(beside):
    assert drift([], "a", beside) is None
    assert drift([of_chunks([MS], [MS]), of_chunks([], [])], "a", beside) is None
