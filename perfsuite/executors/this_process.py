"""Jobs in this very process: cheap, and good for a first look."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field

from perfsuite.baseline.machine import this_machine
from perfsuite.executors.jobs import Job, Measured, Result
from perfsuite.executors.threads import run_with_threads
from perfsuite.measure.clock import Clock, RealClock
from perfsuite.measure.counters import Readers
from perfsuite.measure.latency import Arm, sample_block
from perfsuite.measure.profile import profile
from perfsuite.metric import Counter
from perfsuite.spec import CANDIDATE


@dataclass(frozen=True)
class Prepared:
    """What a job needs to be measured, made. ``accelerator``: the one that it uses, for the machine class.

    ``counters``: what is read around calls beside the clock.
    """

    arms: Mapping[str, Arm]
    accelerator: str = ""
    find_facts: Callable[[], Measured] | None = None
    counters: Mapping[str, Counter] = field(default_factory=dict)


@dataclass(frozen=True)
class ThisProcess:
    """``prepare`` makes what a job names. ``fresh``: whether this process was started for such jobs alone."""

    prepare: Callable[[Job], Prepared]
    clock: Clock = field(default_factory=RealClock)
    fresh: bool = False

    def submit(self, jobs: Sequence[Job]) -> Generator[Result]:
        """What an arm raises passes through."""
        for job in jobs:
            yield self._done(job)

    def close(self) -> None:
        """It has started nothing."""

    def _done(self, job: Job) -> Result:
        made = self.prepare(job)
        with run_with_threads(job.threads):
            block = sample_block(
                made.arms, seed=job.block_seed, fresh=self.fresh, threads=job.threads, plan=job.plan, clock=self.clock,
                readers=Readers.of(made.counters),
            ) if "block" in job.want else None  # fmt: skip
            measured = {CANDIDATE: made.find_facts()} if job.wants_facts and made.find_facts else {}
            profiles = {name: profile(arm) for name, arm in made.arms.items()} if "profiles" in job.want else {}
        machine = this_machine(job.threads, made.accelerator).id
        return Result(job=job.id, machine=machine, block=block, measured=measured, profiles=profiles)
