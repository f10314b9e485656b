"""Jobs in several fresh processes each, one for each revision or each arm, of which one is active at a time."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

import msgspec

from perfsuite.executors import messages
from perfsuite.executors.asking import ask, facts, profiles, reach
from perfsuite.executors.failures import RevisionFailedError, WorkerGoneError
from perfsuite.executors.jobs import Job, Measured, Result
from perfsuite.executors.messages import Answer, Request
from perfsuite.executors.workers import Worker, Workers
from perfsuite.measure.clock import Clock, RealClock
from perfsuite.measure.latency import Plan, Warm, interleave
from perfsuite.spec import BASE, CANDIDATE, Chunk

# Threads of one process spin for a while when the other's turn has come: longer chunks make less of that.
IN_TURNS_PLAN = Plan(chunk_ns=30_000_000, rounds=10, min_calls=2)


@dataclass(frozen=True)
class _Turn:
    """One process and its part of a job. ``name``: who is to blame if it dies; ``arm``: what it calls its arm."""

    name: str
    arm: str
    job: Job
    worker: Worker


@dataclass(frozen=True)
class ProcessesInTurns:
    """Two-process A/B, or as many processes as a job has arms.

    Without address randomization all processes lay their memory out alike, so that it cancels.
    """

    workers: Workers
    fixed_addresses: bool = True
    clock: Clock = field(default_factory=RealClock)

    def submit(self, jobs: Sequence[Job]) -> Generator[Result]:
        """Raises RevisionFailedError (also for a process that dies), UnusedBaseError."""
        for job in jobs:
            yield self._done(job)

    def close(self) -> None:
        self.workers.close()

    def _done(self, job: Job) -> Result:
        turns = self._turns(job)
        machine = ""
        with ExitStack() as stack:
            for turn in turns.values():
                with _blaming(turn.name):
                    machine = reach(turn.worker, turn.job).machine
                stack.callback(turn.worker.release)
            sampler = _Turns(turns)
            block = interleave(
                tuple(turns), sampler, seed=job.block_seed, fresh=True, threads=job.threads, plan=job.plan,
                clock=self.clock,
            ) if "block" in job.want else None  # fmt: skip
            workers = {arm: turn.worker for arm, turn in turns.items()}
            return Result(
                job=job.id, machine=machine, block=block, measured=_facts(turns), profiles=profiles(workers, job)
            )

    def _turns(self, job: Job) -> dict[str, _Turn]:
        found: dict[str, _Turn] = {}
        for arm, (name, part) in _parts(job).items():
            kind = (*job.revisions.items(), name)
            worker = self.workers.worker(kind, job.number, part.revisions, fixed_addresses=self.fixed_addresses)
            its_arm = BASE if BASE in part.revisions else part.arms[0]
            found[arm] = _Turn(_blamed(name) if len(job.revisions) > 1 else name, its_arm, part, worker)
        self.workers.settle()
        return found


def _parts(job: Job) -> dict[str, tuple[str, Job]]:
    """By arm, the name of its process and what that has to do. The candidate's revision is the first one."""
    if len(job.revisions) == 1:
        return {arm: (arm, msgspec.structs.replace(job, arms=(arm,))) for arm in job.arms}
    names = list(job.revisions)
    return {
        arm: (name, msgspec.structs.replace(job, revisions={_blamed(name): job.revisions[name]}))
        for arm, name in ((CANDIDATE, names[0]), (BASE, names[-1]))
    }


def _blamed(revision: str) -> str:
    """A control has two base revisions; both are called base."""
    return CANDIDATE if revision == CANDIDATE else BASE


def _facts(turns: Mapping[str, _Turn]) -> dict[str, Measured]:
    found: dict[str, Measured] = {}
    for turn in turns.values():
        with _blaming(turn.name):
            for measured in facts(turn.worker, turn.job).values():
                found[turn.name] = measured
    return found


@dataclass(frozen=True)
class _Turns:
    """Arms that live in a process each, for ``interleave``."""

    turns: Mapping[str, _Turn]

    def warm_up(self, arm: str) -> Warm:
        answer = self._ask(arm, messages.WarmUp(self.turns[arm].arm))
        assert isinstance(answer, messages.WarmedUp)
        return answer.warm

    def chunk(self, arm: str, calls: int, repeat: int, drop_first: bool) -> Chunk:
        answer = self._ask(arm, messages.TakeChunk(self.turns[arm].arm, calls, repeat, drop_first))
        assert isinstance(answer, messages.TookChunk)
        return replace(answer.chunk, arm=arm)

    def _ask(self, arm: str, request: Request) -> Answer:
        turn = self.turns[arm]
        with _blaming(turn.name):
            return ask(turn.worker, request, turn.job)


@contextmanager
def _blaming(name: str) -> Iterator[None]:
    """A process of its own that dies is the fault of its revision, or of its arm."""
    try:
        yield
    except WorkerGoneError as error:
        raise RevisionFailedError(error.what, error.remedy, name, f"its process {error.how}") from None
