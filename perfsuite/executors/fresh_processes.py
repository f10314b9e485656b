"""Jobs in one fresh process each, which holds one revision, or two beside each other (in-process A/B)."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from perfsuite.baseline.machine import usable_cores
from perfsuite.executors import messages
from perfsuite.executors.asking import ask, facts, profiles, proof, reach
from perfsuite.executors.jobs import Job, Result
from perfsuite.executors.workers import Worker, Workers
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

    def submit(self, jobs: Sequence[Job]) -> Generator[Result]:
        """Raises WorkerGoneError, RevisionFailedError, UnusedBaseError."""
        for job, following in zip_longest(jobs, jobs[1:]):
            yield self._done(job, following)

    def close(self) -> None:
        self.workers.close()

    def _done(self, job: Job, following: Job | None) -> Result:
        worker = self._started(job, following)
        reached = reach(worker, job)
        try:
            if reached.unsound:
                return Result(job=job.id, machine=reached.machine, unsound=reached.unsound)
            block = _block(worker, job) if "block" in job.want else None
            return Result(
                job=job.id, machine=reached.machine, block=block, measured=facts(worker, job),
                profiles=profiles(dict.fromkeys(job.arms_of_block, worker), job), proof=proof(worker, job),
            )  # fmt: skip
        finally:
            worker.release()

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


def _block(worker: Worker, job: Job) -> Block:
    answer = ask(worker, messages.TakeBlock(), job)
    assert isinstance(answer, messages.TookBlock)
    return answer.block
