"""Sampling the time of several arms in one process: one block.

Arms take turns in *chunks* of back-to-back calls, because alternating single calls measures a cold
cache; each chunk's first call is dropped. The order within each round is drawn from the seed and
mirrored in the next round (ABBA), so that drift and carry-over cancel. Garbage collection is off.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from perfsuite.measure.clock import Clock, RealClock
from perfsuite.spec import Block, Chunk

Arm = Callable[[], object]


@dataclass(frozen=True)
class Plan:
    """How one block is sampled. Durations are aims: a slow call still gets its minimum of calls."""

    chunk_ns: int = 30_000_000
    rounds: int = 10  # chunks of each arm; even, so that orders are balanced
    min_calls: int = 2  # timed calls in each chunk, beside the dropped first
    warmup_ns: int = 300_000_000  # at most, for each arm
    min_call_ns: int = 20_000  # faster callables are timed several calls at a time
    budget_ns: int = 4_000_000_000  # rounds stop early, in balance, when this is spent


def sample_block(
    arms: Mapping[str, Arm],
    *,
    seed: int,
    fresh: bool,
    threads: int,
    plan: Plan | None = None,
    clock: Clock | None = None,
) -> Block:
    """Sample every arm alternately. Exceptions of an arm pass through; garbage collection is restored."""
    plan, clock = plan or Plan(), clock or RealClock()
    with _no_garbage_collection():
        warmed = {name: _warm_up(arm, plan, clock) for name, arm in arms.items()}
        repeats = {name: max(1, plan.min_call_ns // max(1, ns)) for name, (ns, _) in warmed.items()}
        calls = {name: _calls_in_chunk(ns * repeats[name], plan) for name, (ns, _) in warmed.items()}
        chunks: list[Chunk] = []
        start = clock.now_ns()
        for number, order in enumerate(_orders(tuple(arms), plan.rounds, seed)):
            if number % 2 == 0 and number > 1 and clock.now_ns() - start > plan.budget_ns:
                break
            chunks += (_chunk(name, arms[name], calls[name], repeats[name], clock) for name in order)
    return Block(tuple(chunks), seed, fresh, threads, all(stable for _, stable in warmed.values()))


def _orders(names: tuple[str, ...], rounds: int, seed: int) -> Iterator[tuple[str, ...]]:
    """Random orders, each followed by its mirror image."""
    rng = random.Random(seed)
    for _ in range((rounds + 1) // 2):
        order = tuple(rng.sample(names, len(names)))
        yield order
        yield order[::-1]


def _chunk(name: str, arm: Arm, calls: int, repeat: int, clock: Clock) -> Chunk:
    arm()  # the first call after another arm finds a cold cache
    return Chunk(name, tuple(_time(arm, repeat, clock) for _ in range(calls)))


def _time(arm: Arm, repeat: int, clock: Clock) -> float:
    """Nanoseconds of one call, from ``repeat`` calls timed together."""
    start = clock.now_ns()
    for _ in range(repeat):
        arm()
    return max(clock.now_ns() - start, 1) / repeat


def _warm_up(arm: Arm, plan: Plan, clock: Clock) -> tuple[int, bool]:
    """Call until the time is stable: the last three calls are within 10% of the three before them.

    Returns the nanoseconds of one call, and whether it became stable within the allowed time.
    """
    times: list[int] = []
    start = clock.now_ns()
    while True:
        times.append(round(_time(arm, 1, clock)))
        if len(times) >= 6:
            before, last = sorted(times[-6:-3])[1], sorted(times[-3:])[1]
            if abs(last - before) <= 0.1 * before:
                return last, True
        if clock.now_ns() - start > plan.warmup_ns and len(times) >= 3:
            return sorted(times[-3:])[1], False


def _calls_in_chunk(timed_ns: int, plan: Plan) -> int:
    return max(plan.min_calls, plan.chunk_ns // max(1, timed_ns))


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
