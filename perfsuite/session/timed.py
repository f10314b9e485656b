"""Blocks of one case for limits on its time: screen in place, confirm in fresh processes.

A time is first measured in this process, where most items end. Only what looks bad, or cannot be
told, is measured again in fresh processes, block after block, until the verdict is clear or the
budget is spent; the verdict then rests on those blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import msgspec

from perfsuite.executors.collecting import collected
from perfsuite.executors.jobs import Executor, Job
from perfsuite.executors.this_process import Prepared
from perfsuite.gate import drift
from perfsuite.gate.baseline import Baseline, Budget
from perfsuite.gate.judge import judge_all
from perfsuite.gate.sampled import arms_needed, precision_needed
from perfsuite.measure.clock import Deadline
from perfsuite.measure.counters import counters_of
from perfsuite.measure.latency import Plan
from perfsuite.progress import tell
from perfsuite.session.measurable import Measurable
from perfsuite.session.settings import Rerun, Settings
from perfsuite.spec import CANDIDATE, ORIGINAL, SECOND, YARDSTICK, Block, Evidence, Limit, Status
from perfsuite.stats.blocks import log_ratio
from perfsuite.stats.decision import spread_of
from perfsuite.stats.external_samples import beside_seconds, with_calls

FIRST_LOOK = 2  # fresh blocks before the first verdict
_MIN_EXTERNAL_CALLS = 5  # calls: fewer show no scatter, and pytest-benchmark makes so many


Here = Callable[[Callable[[Job], Prepared]], Executor]
"""Makes the executor of a first look, given what makes the arms of a job."""


@dataclass(frozen=True)
class TimedRun:
    """Getting the blocks for one case. An ``executor`` is made only if the first look is not enough."""

    settings: Settings
    subject: Measurable
    limits: Sequence[Limit]
    baseline: Baseline
    budget: Budget
    rerun: Rerun
    executor: Callable[[], Executor]
    here: Here

    def measure(self, evidence: Evidence) -> Evidence:
        """Screen in place; confirm in fresh processes what looks bad or cannot be told.

        A process in which earlier tests have left something measures another thing than theirs, and screens nothing.
        """
        evidence = replace(evidence, yardstick=self._yardstick())
        if not self.rerun.leaks:
            self._tell("screening in place", 0, 1)
            screened = evidence.with_blocks((self._screen(),))
            if self._is_settled(screened, screening=True):
                return screened
        return self._confirmed(evidence)

    def _confirmed(self, evidence: Evidence) -> Evidence:
        """Fresh blocks, until the verdict is clear or the budget is spent."""
        settings, budget = self.settings, Deadline.after(self.settings.budget_s)
        confirmed = evidence
        jobs = self._jobs(self._sampled(), self._plan(), settings.max_blocks)
        with closing(self._fresh(jobs, "confirming in fresh processes")) as blocks:
            for number, block in enumerate(blocks, 1):
                confirmed = confirmed.with_blocks((*confirmed.blocks, self._told(block)))
                if number >= FIRST_LOOK and (budget.is_over or self._is_settled(confirmed, screening=False)):
                    break
        return confirmed

    def record(self, evidence: Evidence) -> Evidence:
        """The fresh blocks that a baseline is made of, relative to the steadiest yardstick; none if the time drifts."""
        offered = self.subject.yardsticks()
        arms = tuple(name for name in self._names() if name != YARDSTICK)
        all_arms = (*arms, *(f"{YARDSTICK}:{name}" for name in offered))
        jobs = self._jobs(all_arms, self.settings.plan(Plan()), self.settings.record_blocks)
        blocks = tuple(self._fresh(jobs, "recording in fresh processes"))
        chosen = steadiest(blocks, offered)
        kept = tuple(block.renamed(f"{YARDSTICK}:{chosen}", YARDSTICK) for block in blocks)
        if why := drift.told(kept, (YARDSTICK,)):
            return replace(evidence, not_timed=why, not_timed_remedy=drift.REMEDY)
        return replace(evidence, yardstick=chosen, blocks=kept)

    def _is_settled(self, evidence: Evidence, screening: bool) -> bool:
        """Whether no limit needs more blocks. A first look in this process can acquit, never convict."""
        verdicts = judge_all(self.limits, evidence, self.baseline, self.budget)
        convicted = screening and any(verdict.status is Status.REGRESSED for verdict in verdicts)
        return not convicted and not any(verdict.is_open for verdict in verdicts)

    def _yardstick(self) -> str:
        """The one that the baseline used, so that the two can be compared."""
        entry, here = self.baseline.entry, self.baseline.here.id
        quantities = [limit.metric.quantity for limit in self.limits if limit.is_tolerance]
        if entry is not None and not self.settings.update:
            for stored in (entry.samples(quantity).get(here) for quantity in quantities):
                if stored is not None:
                    return stored.yardstick
        return self.subject.yardsticks()[0]

    def _names(self) -> tuple[str, ...]:
        needed = {name for limit in self.limits for name in arms_needed(limit)}
        return tuple(name for name in (CANDIDATE, ORIGINAL, YARDSTICK) if name in needed)

    def _sampled(self) -> tuple[str, ...]:
        """The arms that are called. A second is not: it takes as long as it takes."""
        return tuple(name for name in self._names() if (name, self._yardstick()) != (YARDSTICK, SECOND))

    def _told(self, block: Block) -> Block:
        return beside_seconds(block) if self._yardstick() == SECOND else block

    def _screen(self) -> Block:
        """The first look: at what another tool has timed already, or else at a block of this process."""
        given, names = self.subject.timed_ns(), self._sampled()
        if len(given) < _MIN_EXTERNAL_CALLS or ORIGINAL in names or counters_of(self.limits):
            return self._told(self._in_place(names))
        others = self._in_place(tuple(name for name in names if name != CANDIDATE))
        return self._told(with_calls(others, CANDIDATE, given))

    def _in_place(self, names: tuple[str, ...]) -> Block:
        (job,) = self._jobs(names, self._plan(), 1)
        (result,) = collected(self.here(self._prepared), [msgspec.structs.replace(job, number=0)])
        assert result.block is not None
        return result.block

    def _prepared(self, job: Job) -> Prepared:
        arms = {name: self.subject.arm(name, job.yardstick) for name in job.arms}
        return Prepared(arms, self.subject.accelerator(), counters=counters_of(self.limits))

    def _plan(self) -> Plan:
        """For a verdict; what is recorded has its full time."""
        return self.settings.plan(Plan(), precision_needed(self.limits))

    def _jobs(self, arms: tuple[str, ...], plan: Plan, most: int) -> list[Job]:
        job = self.rerun.job(self.subject.case, self.settings)
        job = msgspec.structs.replace(job, arms=arms, yardstick=self._yardstick(), plan=plan)
        return [msgspec.structs.replace(job, number=number) for number in range(1, most + 1)]

    def _fresh(self, jobs: Sequence[Job], what: str) -> Generator[Block]:
        """Blocks from elsewhere, which must be a machine of the class that the baseline's times are from."""
        with closing(collected(self.executor(), jobs, self.baseline.here.id)) as results:
            for number in range(1, len(jobs) + 1):
                self._tell(what, number, len(jobs))
                block = next(results).block
                assert block is not None
                yield block

    def _tell(self, what: str, done: int, total: int) -> None:
        tell(f"{self.subject.case.key}: {what}", done, total)


def steadiest(blocks: Sequence[Block], yardsticks: Sequence[str]) -> str:
    """The first yardstick, unless another has shown clearly less spread between processes."""
    spreads = {
        name: spread_of([log_ratio(block, CANDIDATE, f"{YARDSTICK}:{name}") for block in blocks]).sd
        for name in yardsticks
    }
    best = min(yardsticks, key=spreads.__getitem__)
    enough = len(blocks) >= _BLOCKS_TO_CHOOSE and spreads[best] < _MAX_SPREAD_RATIO * spreads[yardsticks[0]]
    return best if enough else yardsticks[0]


_BLOCKS_TO_CHOOSE = 4
_MAX_SPREAD_RATIO = 0.6  # of the first one's spread: of several equal ones, the smallest of five is often 0.7 by chance
