"""Where blocks come from. A block depends on no other, so a source could as well be another machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

import msgspec

from perfsuite.baseline.machine import usable_cores
from perfsuite.engine import messages
from perfsuite.engine.messages import BASE_VIEW, CANDIDATE_VIEW, Answer, Failed, Measured, Reached, Request, Run
from perfsuite.engine.remedies import remedy_for
from perfsuite.engine.threads import run_with_threads
from perfsuite.engine.workers import Worker, WorkerGoneError, Workers
from perfsuite.errors import EngineError
from perfsuite.measure.clock import Clock, RealClock
from perfsuite.measure.counters import Readers
from perfsuite.measure.latency import Arm, Plan, Warm, interleave, sample_block
from perfsuite.spec import BASE, CANDIDATE, Block, Chunk

# Threads of one process spin for a while when the other's turn has come: longer chunks make less of that.
PAIRS_PLAN = Plan(chunk_ns=30_000_000, rounds=10, min_calls=2)

Views = Mapping[str, str | None]
"""Views of a worker by name, each with its worktree; None is the working tree."""


class ViewFailedError(EngineError):
    """The test failed under one view; ``reason`` is the line of it that says why."""

    def __init__(self, what: str, remedy: str, view: str, reason: str) -> None:
        super().__init__(what, remedy)
        self.view = view
        self.reason = reason

    def __reduce__(self) -> tuple[type[EngineError], tuple[str, str]]:
        return (EngineError, (self.what, self.remedy))


class UnsoundTwinsError(EngineError):
    """The two revisions must not share a process."""


class UnusedBaseError(EngineError):
    """Nothing that was loaded is from the base: the working tree would be compared with itself."""


@dataclass(frozen=True)
class Sampled:
    """What one set of fresh processes gave: facts by view if they were asked for, and a block if it was timed."""

    measured: Mapping[str, Measured]
    block: Block | None = None


class BlockSource(Protocol):
    def block(self, number: int) -> Block:
        """The block of that number (from 1), its order drawn from the seed."""


@dataclass(frozen=True)
class InPlace:
    """Blocks from this process: cheap, and good for a first look."""

    arms: Mapping[str, Arm]
    threads: int
    seed: int = 0
    plan: Plan = field(default_factory=Plan)
    clock: Clock = field(default_factory=RealClock)
    readers: Readers = field(default_factory=Readers)

    def block(self, number: int) -> Block:
        with run_with_threads(self.threads):
            return sample_block(
                self.arms, seed=self.seed + number, fresh=False, threads=self.threads, plan=self.plan, clock=self.clock,
                readers=self.readers,
            )  # fmt: skip


@dataclass(frozen=True)
class Served:
    """Blocks from one fresh process each, which shows one view, or two side by side (twins)."""

    workers: Workers
    kind: str
    views: Views
    request: Run  # its seed is the session's; each block adds its number
    plan: Plan = field(default_factory=Plan)
    most: int = 1  # blocks that may be asked for

    def block(self, number: int) -> Block:
        sampled = self.take(number).block
        assert sampled is not None
        return sampled

    def take(self, number: int, *, facts: bool = False, timed: bool = True) -> Sampled:
        """Raises WorkerGoneError, ViewFailedError, UnsoundTwinsError, UnusedBaseError."""
        seed = self.request.seed + number
        worker = self._started(number, and_next=timed and number < self.most)
        request = msgspec.structs.replace(self.request, seed=seed, examined=number > 1)
        reached = _reach(worker, request)
        try:
            if reached.unsound:
                raise UnsoundTwinsError(reached.unsound)
            block = self._sample(worker, seed) if timed else None
            return Sampled(_facts(worker, self.request.case) if facts else {}, block)
        finally:
            worker.release()

    def _sample(self, worker: Worker, seed: int) -> Block:
        answer = _ask(worker, messages.TakeBlock(seed, self.plan), self.request.case)
        assert isinstance(answer, messages.TookBlock)
        return answer.block

    def _started(self, number: int, *, and_next: bool = False) -> Worker:
        """A start keeps one core busy: where there are two, the next process starts in the same time."""
        if and_next and usable_cores() > 1 and not self.workers.has(self.kind, number):
            self.workers.worker(self.kind, number + 1, self.views)
        worker = self.workers.worker(self.kind, number, self.views)
        self.workers.settle()
        return worker

    def profiles(self, number: int) -> Mapping[str, Mapping[str, float]]:
        """Own time by operator, of the candidate and of the base."""
        worker = self._started(number)
        _reach(worker, msgspec.structs.replace(self.request, examined=True))
        try:
            return _profiles({CANDIDATE: worker, BASE: worker}, self.request.case)
        finally:
            worker.release()


@dataclass(frozen=True)
class Pairs:
    """Blocks from two fresh processes each, one for each revision, taking turns; one is active at a time."""

    workers: Workers
    kind: str
    views: Views  # each view gets a process of its own
    request: Run
    plan: Plan = PAIRS_PLAN
    clock: Clock = field(default_factory=RealClock)

    def block(self, number: int) -> Block:
        sampled = self.take(number).block
        assert sampled is not None
        return sampled

    def take(self, number: int, *, facts: bool = False, timed: bool = True) -> Sampled:
        """Raises as ``Served.take`` does."""
        seed = self.request.seed + number
        request = msgspec.structs.replace(self.request, seed=seed, examined=number > 1)
        pair = self._pair(number)
        reached: list[Worker] = []
        try:
            for view, worker in pair.items():
                with _blaming(view):
                    _reach(worker, request)
                reached.append(worker)
            block = self._sample(pair, request.seed) if timed else None
            return Sampled(self._facts(pair) if facts else {}, block)
        finally:
            for worker in reached:
                worker.release()

    def _facts(self, pair: Mapping[str, Worker]) -> dict[str, Measured]:
        found: dict[str, Measured] = {}
        for view, worker in pair.items():
            with _blaming(view):
                found[view] = next(iter(_facts(worker, self.request.case).values()))
        return found

    def profiles(self, number: int) -> Mapping[str, Mapping[str, float]]:
        """As ``Served.profiles``."""
        pair = self._pair(number)
        reached: list[Worker] = []
        try:
            for worker in pair.values():
                _reach(worker, msgspec.structs.replace(self.request, examined=True))
                reached.append(worker)
            return _profiles(_arms(pair), self.request.case)
        finally:
            for worker in reached:
                worker.release()

    def _pair(self, number: int) -> dict[str, Worker]:
        """Without address randomization both processes lay their memory out alike, so that it cancels."""
        pair = {
            view: self.workers.worker(f"{self.kind}-{view}", number, {_kind_of(view): tree}, fixed_addresses=True)
            for view, tree in self.views.items()
        }
        self.workers.settle()
        return pair

    def _sample(self, pair: Mapping[str, Worker], seed: int) -> Block:
        arms = _arms(pair)
        views = dict(zip(arms, pair, strict=True))
        sampler = _Remote(arms, views, self.plan, self.request.case)
        return interleave(
            tuple(arms), sampler, seed=seed, fresh=True, threads=self.request.threads, plan=self.plan, clock=self.clock
        )


@dataclass(frozen=True)
class _Remote:
    """Arms that live in a worker each; every worker calls its own arm CANDIDATE or, in a base view, BASE."""

    arms: Mapping[str, Worker]
    views: Mapping[str, str]
    plan: Plan
    case: str

    def warm_up(self, arm: str) -> Warm:
        answer = self._ask(arm, messages.WarmUp(self._its_name(arm), self.plan))
        assert isinstance(answer, messages.WarmedUp)
        return answer.warm

    def chunk(self, arm: str, calls: int, repeat: int, drop_first: bool) -> Chunk:
        answer = self._ask(arm, messages.TakeChunk(self._its_name(arm), calls, repeat, drop_first))
        assert isinstance(answer, messages.TookChunk)
        return replace(answer.chunk, arm=arm)

    def _ask(self, arm: str, request: Request) -> Answer:
        with _blaming(self.views[arm]):
            return _ask(self.arms[arm], request, self.case)

    def _its_name(self, arm: str) -> str:
        return CANDIDATE if _kind_of(self.views[arm]) == CANDIDATE_VIEW else BASE


def _arms(pair: Mapping[str, Worker]) -> dict[str, Worker]:
    """The candidate's view is the first one, the base's the last."""
    return {CANDIDATE: next(iter(pair.values())), BASE: list(pair.values())[-1]}


def _profiles(arms: Mapping[str, Worker], case: str) -> dict[str, Mapping[str, float]]:
    answers = {arm: _ask(worker, messages.TakeProfile(arm), case) for arm, worker in arms.items()}
    return {arm: answer.own_us for arm, answer in answers.items() if isinstance(answer, messages.Profile)}


def facts_apart(workers: Workers | None, request: Run) -> Measured:
    """Facts of the working tree from a fresh process, without a block. Raises EngineError if there is none."""
    if workers is None:
        raise EngineError("this session cannot start fresh processes", "run it through pytest")
    source = Served(workers, "fresh", {CANDIDATE_VIEW: None}, request)
    return source.take(1, facts=True, timed=False).measured[CANDIDATE_VIEW]


def _facts(worker: Worker, case: str) -> Mapping[str, Measured]:
    answer = _ask(worker, messages.TakeFacts(), case)
    assert isinstance(answer, messages.TookFacts)
    return answer.measured


def _kind_of(view: str) -> str:
    """A control has two base views; both are of the kind base."""
    return CANDIDATE_VIEW if view == CANDIDATE_VIEW else BASE_VIEW


@contextmanager
def _blaming(view: str) -> Iterator[None]:
    """A process of its own that dies is the fault of its view."""
    try:
        yield
    except WorkerGoneError as error:
        raise ViewFailedError(error.what, error.remedy, _kind_of(view), f"its process {error.how}") from None


def _reach(worker: Worker, request: Run) -> Reached:
    answer = worker.run(request)
    if isinstance(answer, Failed):
        raise ViewFailedError(
            f"in a fresh process, {request.case} did not reach its measurement:\n{answer.text}",
            remedy_for(answer.text),
            answer.view,
            _reason(answer.text),
        )
    if answer.unused and not request.examined:  # a later process may have run no other test that loads something
        worker.release()
        raise UnusedBaseError(
            "no module that is loaded comes from the base: what runs is installed elsewhere, or is all tests",
            "install the package under test from this repository, editable (pip install -e .)",
        )
    return answer


def _ask(worker: Worker, request: Request, case: str) -> Answer:
    answer = worker.ask(request, case)
    if isinstance(answer, Failed) and answer.remedy:
        what = f"{case}, in a fresh process, under its {answer.view} revision: {answer.text}"
        raise ViewFailedError(what, answer.remedy, answer.view, answer.text)
    if isinstance(answer, Failed):
        raise ViewFailedError(
            f"a timed call of {case} raised in a fresh process, under its {answer.view} revision:\n{answer.text}",
            "make the callable repeatable: it is called many times with the same arguments",
            answer.view,
            _reason(answer.text),
        )
    return answer


def _reason(text: str) -> str:
    """The line that names the error, as pytest marks it, or as Python and argparse end with."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    marked = [line[1:].strip() for line in lines if line.startswith("E ")]
    named = [line for line in lines if "error" in line.lower()]
    return next(iter(marked or named[-1:] or lines[-1:]), "it says nothing")
