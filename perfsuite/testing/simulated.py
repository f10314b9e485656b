"""An executor that starts nothing and waits for nothing: its arms take as long as a test says, on its own clock."""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from perfsuite.baseline.machine import this_machine
from perfsuite.executors.jobs import Job, Measured, Result
from perfsuite.measure.clock import SimulatedClock
from perfsuite.measure.latency import Arm, sample_block
from perfsuite.spec import BASE, CANDIDATE


@dataclass
class Simulated:
    """Answers with blocks that are sampled as in a process, of arms that take ``ms``, times what is planted.

    ``between``: the spread (of the logarithm) of an arm from process to process; ``within``: from call to call. What
    is not ``fresh`` is a first look.
    ``measured`` are the facts, by revision; ``unsound`` is why two revisions cannot share a process. ``shuffled``
    draws the order in which jobs are done from a seed. Faults, by the number of a job: ``lost`` are those that are
    not answered the first time, ``twice`` those that are answered again, ``failing`` those that raise; ``stray``
    ones are answered with a number of their own. ``machines`` do those numbers; else this machine's class does.
    """

    planted: Mapping[str, float] = field(default_factory=dict)  # by arm; 1 where nothing is said
    ms: float = 10.0  # so that a chunk is a single call
    between: float = 0.0
    within: float = 0.01
    fresh: bool = True
    measured: Mapping[str, Measured] = field(default_factory=dict)
    unsound: str = ""
    shuffled: int | None = None
    lost: Collection[int] = ()
    twice: Collection[int] = ()
    stray: Collection[int] = ()
    failing: Mapping[int, Exception] = field(default_factory=dict)
    machines: Mapping[int, str] = field(default_factory=dict)
    asked: list[Job] = field(default_factory=list)  # every job that was handed in
    done: list[Job] = field(default_factory=list)  # every job that was begun before its generator was closed

    def submit(self, jobs: Sequence[Job]) -> Generator[Result]:
        """Raises what is ``failing``."""
        order = list(jobs) if self.shuffled is None else random.Random(self.shuffled).sample(jobs, len(jobs))
        before = [job.id for job in self.asked]
        self.asked += jobs
        for job in order:
            if job.number in self.lost and job.id not in before:
                continue
            if job.number in self.failing:
                raise self.failing[job.number]
            self.done.append(job)
            result = self._result(job)
            yield result
            if job.number in self.twice:
                yield result
            if job.number in self.stray:
                yield msgspec.structs.replace(result, job="a job of somebody else's")

    def close(self) -> None:
        """It has started nothing."""

    def _result(self, job: Job) -> Result:
        machine = self.machines.get(job.number) or this_machine(job.threads).id
        if self.unsound and len(job.revisions) > 1 and not job.apart:
            return Result(job=job.id, machine=machine, unsound=self.unsound)
        block, clock = None, SimulatedClock()
        if "block" in job.want:
            arms = {name: self._arm(job, name, clock) for name in job.arms_of_block}
            block = sample_block(
                arms, seed=job.block_seed, fresh=self.fresh, threads=job.threads, plan=job.plan, clock=clock
            )
        profiles = {name: {"simulated": 1000 * self._ms(job, name)} for name in job.arms_of_block}
        return Result(
            job=job.id, machine=machine, block=block, measured=dict(self.measured) if job.wants_facts else {},
            profiles=profiles if "profiles" in job.want else {},
        )  # fmt: skip

    def _ms(self, job: Job, arm: str) -> float:
        """In a control, which holds no candidate, both arms are the base."""
        return self.ms * self.planted.get(arm if arm != CANDIDATE or CANDIDATE in job.revisions else BASE, 1.0)

    def _arm(self, job: Job, name: str, clock: SimulatedClock) -> Arm:
        rng = random.Random(f"{job.block_seed} {name}")
        ns = self._ms(job, name) * 1e6 * math.exp(rng.gauss(0, self.between))
        return lambda: clock.advance_ns(ns * math.exp(rng.gauss(0, self.within)))
