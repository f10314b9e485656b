"""Jobs in one fresh process each, which holds one revision, or two beside each other (in-process A/B)."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest

import msgspec

from perfsuite.baseline.machine import usable_cores
from perfsuite.executors import messages
from perfsuite.executors.asking import ask, facts, profiles, proof, reach
from perfsuite.executors.failures import RevisionFailedError
from perfsuite.executors.jobs import Job, Result
from perfsuite.executors.workers import Worker, Workers
from perfsuite.measure.clock import Clock, RealClock
from perfsuite.measure.latency import Plan
from perfsuite.spec import Block

# Both revisions take turns from the first chunk on, so that what is not warm by then slows both. They mostly are of
# one size: what is left of a cold cache's effect then slows both, too.
SIDE_BY_SIDE_PLAN = Plan(warmup_ns=100_000_000, max_cold=0.03)


@dataclass(frozen=True)
class FreshProcesses:
    """One job after the other: another process would disturb what is timed. A process serves all jobs of a number."""

    workers: Workers
    cores: int = field(default_factory=usable_cores)
    clock: Clock = field(default_factory=RealClock)

    def submit(self, jobs: Sequence[Job]) -> Generator[Result]:
        """Raises WorkerGoneError, RevisionFailedError, UnusedBaseError."""
        for job, following in zip_longest(jobs, jobs[1:]):
            yield self._done(job, following)

    def close(self) -> None:
        self.workers.close()

    def _done(self, job: Job, following: Job | None) -> Result:
        worker = self._started(job, following)
        began_ns = self.clock.now_ns()
        reached = reach(worker, job)
        # Where that took longer than sampling will, nothing is made anew, and sampled on as it is.
        anew = self.clock.now_ns() - began_ns <= job.plan.budget_ns
        try:
            if reached.unsound:
                return Result(job=job.id, machine=reached.machine, unsound=reached.unsound)
            blocks = _blocks(worker, job, 1 if anew else job.plan.layouts) if "block" in job.want else []
            result = Result(
                job=job.id, machine=reached.machine, measured=facts(worker, job),
                profiles=profiles(dict.fromkeys(job.arms_of_block, worker), job), proof=proof(worker, job),
            )  # fmt: skip
        finally:
            worker.release()
        if blocks and anew and not _is_slow(blocks[0], job.plan):
            blocks += _blocks_anew(worker, job)
        return msgspec.structs.replace(result, block=_joined(blocks) if blocks else None)

    def _started(self, job: Job, following: Job | None) -> Worker:
        """A start keeps one core busy: where there are two, the next process starts in the same time."""
        if following and "block" in job.want and self.cores > 1 and not self.workers.has(_kind(job), job.number):
            self.workers.worker(_kind(following), following.number, following.revisions)
        worker = self.workers.worker(_kind(job), job.number, job.revisions, watched="proof" in job.want)
        self.workers.settle()
        return worker


def _kind(job: Job) -> tuple[object, ...]:
    """Which process of a number is the job's: none but that of the same revisions; what is watched is not timed."""
    return (*job.revisions.items(), *job.want.intersection({"proof"}))


def _blocks(worker: Worker, job: Job, number: int) -> list[Block]:
    """As many in a row; of slow calls one is enough."""
    found: list[Block] = []
    while len(found) < number and not (found and _is_slow(found[-1], job.plan)):
        answer = ask(worker, messages.TakeBlock(), job)
        assert isinstance(answer, messages.TookBlock)
        found.append(answer.block)
    return found


def _blocks_anew(worker: Worker, job: Job) -> Iterator[Block]:
    """Of the other layouts; none of a test that can run but once in a process."""
    for layout in range(1, job.plan.layouts):
        again = msgspec.structs.replace(job, seed=job.seed + _SEEDS_APART * layout, examined=True)
        try:
            reach(worker, again)
        except RevisionFailedError:
            return
        try:
            yield from _blocks(worker, again, 1)
        finally:
            worker.release()


def _is_slow(block: Block, plan: Plan) -> bool:
    """Whether its calls are so slow that even the fewest took longer than was planned."""
    return block.seconds * 1e9 > _SLOW * plan.budget_ns


def _joined(blocks: Sequence[Block]) -> Block:
    """One block of all their chunks."""
    chunks = tuple(chunk for block in blocks for chunk in block.chunks)
    seconds, warm = sum(block.seconds for block in blocks), all(block.warm for block in blocks)
    return replace(blocks[0], chunks=chunks, seconds=seconds, warm=warm)


_SEEDS_APART = 1000  # seeds of layouts, since those of blocks follow one another
_SLOW = 3  # budgets: a block goes on for up to two of them, and warms up before
