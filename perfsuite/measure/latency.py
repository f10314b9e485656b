"""Sampling the time of several arms in one process: one block.

Arms take turns in *chunks* of back-to-back calls, because alternating single calls measures a cold
cache; each chunk's first call is dropped (or, where that costs half of the time and a cold cache hardly slows it,
is the one that counts: ``Plan.max_cold``). Two arms alternate, so that every chunk stands between two of the other
arm; the order of more is drawn from the seed in each round, and mirrored in the next (ABC CBA). So drift and
carry-over cancel. Garbage collection is off.
"""

from __future__ import annotations

import gc
import math
import random
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Protocol

from perfsuite.measure.clock import Clock, RealClock
from perfsuite.measure.counters import Counting, Readers
from perfsuite.measure.repeatable import has_setup, prepared
from perfsuite.measure.stack import with_room
from perfsuite.measure.yardstick import Yardstick
from perfsuite.spec import Block, Chunk
from perfsuite.stats.blocks import block_effect

Arm = Callable[[], object]
_UNCOUNTED = nullcontext()


@dataclass(frozen=True)
class Plan:
    """How one block is sampled. Durations are aims: a slow call still gets its minimum of calls.

    Many short chunks tell more than a few long ones of the same total time: on a shared machine noise comes in
    bursts and drifts, and neighbours share it.
    """

    chunk_ns: int = 10_000_000
    rounds: int = 60  # chunks of each arm; even, so that orders are balanced
    min_calls: int = 1  # timed calls in each chunk, beside the dropped first
    warmup_ns: int = 300_000_000  # at most, for each arm
    min_call_ns: int = 20_000  # faster callables are timed several calls at a time
    slow_call_ns: int = 2_000_000_000  # from here one call is a chunk: a cold cache no longer matters
    budget_ns: int = 3_000_000_000  # rounds stop early, in balance, when this is spent
    min_rounds: int = 6  # fewer show hardly any scatter: up to two budgets may be spent on as many
    precision: float = 0.0  # a block may end once it knows the log ratios of the first arm with this standard error
    min_rounds_to_end: int = 12  # a block ends early only after as many, since fewer may agree by chance
    # A block goes on, up to twice its budget, while its error is above extend_above * precision.
    extend_above: float = 1.5
    # Where a chunk has but one timed call, the first one, before it, is timed instead, if a cold cache slows it by no
    # more than this share in any arm: then as many calls tell twice as much. 0: it never is.
    max_cold: float = 0.0
    # Times that the test is run for one block, each sampled by this plan: what it times then lies elsewhere in memory.
    layouts: int = 1

    def in_layouts(self, number: int) -> Plan:
        """A plan for each of so many layouts, which together have the rounds, the budget and the precision of this."""
        return replace(
            self, layouts=number, rounds=2 * math.ceil(self.rounds / 2 / number), budget_ns=self.budget_ns // number,
            precision=self.precision * math.sqrt(number),
        )  # fmt: skip


@dataclass(frozen=True)
class Warm:
    """What warming up an arm has shown: the nanoseconds of a call, and whether they had become stable.

    ``setup_ns``: how long it takes to make what each call needs; None where nothing is made: calls are timed together.
    """

    call_ns: float
    stable: bool
    setup_ns: float | None = None


class Sampler(Protocol):
    """Who can run the arms: this process, or a worker for each of them."""

    def warm_up(self, arm: str) -> Warm: ...

    def chunk(self, arm: str, calls: int, repeat: int, drop_first: bool) -> Chunk:
        """So many timings in a row, each of ``repeat`` calls."""


@dataclass(frozen=True)
class LocalSampler:
    """Arms of this process. ``enter`` is told which arm comes next, so that its surroundings can be set up."""

    arms: Mapping[str, Arm]
    plan: Plan = field(default_factory=Plan)
    clock: Clock = field(default_factory=RealClock)
    enter: Callable[[str], None] | None = None
    readers: Readers = field(default_factory=Readers)

    @with_room
    def warm_up(self, arm: str) -> Warm:
        with self._opened(arm) as call:
            return _warm_up(call, self.plan, self.clock)

    @with_room
    def chunk(self, arm: str, calls: int, repeat: int, drop_first: bool) -> Chunk:
        with self._opened(arm) as call:
            dropped_ns = _time(call, 1, self.clock) if drop_first else 0.0  # after another arm it finds a cold cache
            counting = Counting(self.readers)
            calls_ns = tuple(_time(call, repeat, self.clock, counting) for _ in range(calls))
            counted = counting.per_call(calls * repeat)
            if isinstance(self.arms[arm], Yardstick):
                whole = sum(calls_ns) / calls / 1e9
                counted |= {name: whole for name in self.readers.parts_of_time if not counted[name]}
            return Chunk(arm, calls_ns, counted, dropped_ns)

    @contextmanager
    def _opened(self, arm: str) -> Iterator[Arm]:
        """The arm to call, in its surroundings; a yardstick has its own."""
        if self.enter is not None:
            self.enter(arm)
        call = self.arms[arm]
        with call.opened() if isinstance(call, Yardstick) else nullcontext(call) as opened:
            yield opened


def sample_block(
    arms: Mapping[str, Arm],
    *,
    seed: int,
    fresh: bool,
    threads: int,
    plan: Plan | None = None,
    clock: Clock | None = None,
    enter: Callable[[str], None] | None = None,
    readers: Readers | None = None,
) -> Block:
    """Sample every arm alternately in this process. Exceptions of an arm pass through; GC is restored."""
    sampler = LocalSampler(arms, plan or Plan(), clock or RealClock(), enter, readers or Readers())
    with no_garbage_collection():
        block = interleave(
            tuple(arms), sampler, seed=seed, fresh=fresh, threads=threads, plan=sampler.plan, clock=sampler.clock
        )
    return replace(block, uncounted=sampler.readers.missing)


def interleave(
    names: tuple[str, ...], sampler: Sampler, *, seed: int, fresh: bool, threads: int, plan: Plan, clock: Clock
) -> Block:
    """One block: warm every arm up, then chunks in balanced random order until the rounds or the budget end."""
    began = clock.now_ns()
    warmed = {name: sampler.warm_up(name) for name in names}
    turns = {name: _turn(warm, plan) for name, warm in warmed.items()}
    chunks: list[Chunk] = []
    start = clock.now_ns()
    for number, order in enumerate(orders(names, 2 * plan.rounds, seed)):
        if number % 2 == 0 and number > 0 and is_over(chunks, names, plan, clock.now_ns() - start):
            break
        if number % _TRIAL_ROUNDS == 0 and number > 0 and _first_calls_do(chunks, turns, plan):
            chunks = [replace(chunk, calls_ns=(chunk.dropped_ns,), dropped_ns=0.0) for chunk in chunks]
            turns = dict.fromkeys(names, _ONE_CALL)
        chunks += (sampler.chunk(name, *turns[name]) for name in order)
    seconds = (clock.now_ns() - began) / 1e9
    return Block(tuple(chunks), seed, fresh, threads, all(warm.stable for warm in warmed.values()), seconds)


def is_over(chunks: Sequence[Chunk], names: Sequence[str], plan: Plan, spent_ns: float) -> bool:
    """Whether a block has sampled enough: as its plan says, or less or up to twice as much by how precise it is.

    Ending on small scatter favours neither arm, where the noise of both is alike.
    """
    rounds = len(chunks) // len(names) if names else plan.rounds
    planned, twice = (rounds >= times * plan.rounds or spent_ns > times * plan.budget_ns for times in (1, 2))
    precision = plan.precision if len(names) > 1 else 0.0  # one arm alone has no ratio
    if not planned:
        return precision > 0 and rounds >= plan.min_rounds_to_end and _error(chunks, names) <= precision
    few = rounds < min(plan.min_rounds, plan.rounds)
    return twice or not (few or (precision > 0 and _error(chunks, names) > plan.extend_above * precision))


def _error(chunks: Sequence[Chunk], names: Sequence[str]) -> float:
    """The largest standard error of the log ratios of the first arm to the others."""
    block = Block(tuple(chunks), seed=0, fresh=False, threads=1)
    return max(block_effect(block, names[0], name).se for name in names[1:])


_Turn = tuple[int, int, bool]
"""An arm's: how many timings, how many calls each, and whether a first call is dropped."""

_ONE_CALL: _Turn = (1, 1, False)
_ONE_CALL_AFTER_ANOTHER: _Turn = (1, 1, True)
_TRIAL_ROUNDS = 8  # after as many, and again after twice as many and so on, it is seen how cold first calls are


def _first_calls_do(chunks: Sequence[Chunk], turns: Mapping[str, _Turn], plan: Plan) -> bool:
    """Whether the dropped calls are half of all, and in no arm much slower than the next."""
    if plan.max_cold == 0 or any(turn != _ONE_CALL_AFTER_ANOTHER for turn in turns.values()):
        return False
    slower = {arm: [chunk.dropped_ns / chunk.median_ns for chunk in chunks if chunk.arm == arm] for arm in turns}
    return all(statistics.median(ratios) <= 1 + plan.max_cold for ratios in slower.values())


def _turn(warm: Warm, plan: Plan) -> _Turn:
    whole_ns = max(1, warm.call_ns + (warm.setup_ns or 0))
    if whole_ns >= plan.slow_call_ns:
        return _ONE_CALL
    repeat = max(1, int(plan.min_call_ns // max(1, warm.call_ns))) if warm.setup_ns is None else 1
    return max(plan.min_calls, int(plan.chunk_ns // (whole_ns * repeat))), repeat, True


_BETWEEN_TURNS = 6  # rounds: each turn costs a ratio


def orders(names: tuple[str, ...], rounds: int, seed: int) -> Iterator[tuple[str, ...]]:
    """Of two arms, turns; now and then they turn around, so that they never keep step with what else is going on.

    First after one round, so that drift cancels also where there are no more than two. Of more arms, random orders,
    each followed by its mirror image.
    """
    rng = random.Random(seed)
    if len(names) == 2:
        order = tuple(rng.sample(names, 2))
        for number in range(rounds):
            yield order[::-1] if math.ceil(number / _BETWEEN_TURNS) % 2 else order
        return
    for _ in range((rounds + 1) // 2):
        order = tuple(rng.sample(names, len(names)))
        yield order
        yield order[::-1]


def _time(arm: Arm, repeat: int, clock: Clock, counting: AbstractContextManager[None] = _UNCOUNTED) -> float:
    """Nanoseconds of one call, from ``repeat`` calls timed together; what an arm prepares is outside of the time."""
    with prepared(arm, repeat) as call, counting:
        start = clock.now_ns()
        for _ in range(repeat):
            call()
        spent_ns = clock.now_ns() - start
    return max(spent_ns, 1) / repeat


def _warm_up(arm: Arm, plan: Plan, clock: Clock) -> Warm:
    """Call until the time is stable: the last three calls are within 10% of the three before them.

    Gives up when the allowed time is spent, after one call if that was a slow one.
    """
    times: list[int] = []
    start = clock.now_ns()
    while True:
        times.append(round(_time(arm, 1, clock)))
        spent_ns = clock.now_ns() - start
        setup_ns = (spent_ns - sum(times)) / len(times) if has_setup(arm) else None
        if len(times) >= 6:
            before, last = sorted(times[-6:-3])[1], sorted(times[-3:])[1]
            if abs(last - before) <= 0.1 * before:
                return Warm(last, True, setup_ns)
        enough = len(times) >= 3 or max(times[0], spent_ns) >= plan.slow_call_ns
        if spent_ns > plan.warmup_ns and enough:
            return Warm(sorted(times[-3:])[len(times[-3:]) // 2], False, setup_ns)


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
