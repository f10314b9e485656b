"""One session: measures what the limits need, has it judged, and records what is accepted.

Screen in place, confirm in fresh processes: a time is first measured in this process, where most
items end. Only what looks bad, or cannot be told, is measured again in fresh processes, block after
block, until the verdict is clear or the budget is spent; the verdict then rests on those blocks.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from perfsuite.baseline.machine import Machine, this_machine
from perfsuite.baseline.store import Store
from perfsuite.errors import UsageError
from perfsuite.gate.judge import judge, judge_all
from perfsuite.gate.limits import parse_limits
from perfsuite.gate.reference import Reference
from perfsuite.gate.timed import arms_needed, can_be_judged
from perfsuite.measure.latency import Arm
from perfsuite.progress import tell
from perfsuite.registry import Registries
from perfsuite.session.blocks import BlockSource, Fresh, InPlace, WorkerCommand, WorkerOrder, serve
from perfsuite.session.measurable import Measurable
from perfsuite.session.record import entry_of, information_of
from perfsuite.session.revision import revision
from perfsuite.spec import (
    CANDIDATE,
    ORIGINAL,
    YARDSTICK,
    Against,
    Evidence,
    Facts,
    Kind,
    Limit,
    Status,
    Verdict,
)

_FIRST_LOOK = 2  # fresh blocks before the first verdict


@dataclass(frozen=True)
class Settings:
    """How a session measures. ``no_timing`` is (why, remedy) where times cannot be measured at all."""

    root: Path
    storage: Path
    threads: int
    invoked_from: Path | None = None  # where workers start; None: the current folder
    update: bool = False
    seed: int = 0
    budget_s: float = 60
    max_blocks: int = 8
    record_blocks: int = 5
    no_timing: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class Rerun:
    """The commands that run one test again: to record its baseline, and as a worker."""

    update_command: str
    worker_command: WorkerCommand


@dataclass(frozen=True)
class Judged:
    """What a gate found: the verdicts in the order of their limits, and numbers to show beside them."""

    verdicts: tuple[Verdict, ...]
    information: Mapping[str, object] = field(default_factory=dict)


class WorkerDone(Exception):  # noqa: N818  # it is no error: a worker has answered and its test may end
    """The process was a worker, and it has answered."""


class Session:
    """Judges cases one after the other. ``worker`` is this process's order if it is a worker itself."""

    def __init__(
        self,
        settings: Settings,
        registries: Registries | None = None,
        worker: WorkerOrder | None = None,
    ) -> None:
        self.settings = settings
        self.registries = registries or Registries()
        self.store = Store(settings.storage)
        self.worker = worker
        self._originals: dict[tuple[object, ...], Facts] = {}

    def gate(self, subject: Measurable, limits: Mapping[str, object], rerun: Rerun) -> Judged:
        """Measure and judge.

        Raises PerfsuiteError for limits that do not parse, broken baselines, NaN, dead workers;
        WorkerDone in a worker that has answered.
        """
        parsed = parse_limits(limits, self.registries.metrics)
        related = [limit.metric.name for limit in parsed if limit.metric.against is Against.ORIGINAL]
        if related and not subject.has_original:
            raise UsageError(
                f"{', '.join(related)} relates a technique's model to its original; a callable has none",
                "gate a model with perf_case, or the callable's latency",
            )
        if self.worker is not None:
            return self._serve(self.worker, subject)
        reference = self._reference(subject, rerun)
        evidence = self._exact_evidence(subject, parsed)
        evidence = self._timed_evidence(subject, parsed, evidence, reference, rerun)
        verdicts = judge_all(parsed, evidence, reference)
        if self.settings.update:
            verdicts = self._accept(parsed, evidence, reference, verdicts)
        return Judged(verdicts, information_of(evidence))

    def _serve(self, order: WorkerOrder, subject: Measurable) -> Judged:
        if order.case != subject.case.key:
            return Judged(())  # an earlier gate of the same test: not what this worker is for
        serve(order, _arms(subject, order.arms, order.yardstick))
        raise WorkerDone

    def _reference(self, subject: Measurable, rerun: Rerun) -> Reference:
        group = subject.case.group
        stored = self.store.read(self.store.path_of(group))
        return Reference(
            stored.cases.get(subject.case.key), self._machine(subject), stored.machines, rerun.update_command
        )

    def _machine(self, subject: Measurable) -> Machine:
        return this_machine(self.settings.threads, subject.accelerator())

    def _exact_evidence(self, subject: Measurable, limits: Sequence[Limit]) -> Evidence:
        """Everything without noise. The original's facts are measured only where a limit relates to them."""
        metrics = [limit.metric for limit in limits]
        facts: dict[str, Facts] = {}
        if subject.has_facts(metrics):
            tell(f"{subject.case.key}: exact metrics", 0, 1)
            scored = any(metric.kind is Kind.PAIRED for metric in metrics)
            facts[CANDIDATE] = self._facts(subject, CANDIDATE, scored)
            if any(metric.against is Against.ORIGINAL and metric.kind is not Kind.SAMPLED for metric in metrics):
                facts[ORIGINAL] = self._facts_of_original(subject, scored)
        return Evidence(
            subject.case, subject.context(), facts, relations=subject.relations(), information=subject.information(),
        )  # fmt: skip

    def _facts(self, subject: Measurable, arm: str, scored: bool) -> Facts:
        metrics = self.registries.metrics
        facts = subject.subject(arm).facts([metrics.get(name) for name in metrics.names()])
        return replace(facts, scores=subject.scores(arm)) if scored else facts

    def _facts_of_original(self, subject: Measurable, scored: bool) -> Facts:
        """Measured once for all techniques of one model: the same spec and seed give the same original."""
        key = (*subject.memo_key, scored)
        if key not in self._originals:
            self._originals[key] = self._facts(subject, ORIGINAL, scored)
        return self._originals[key]

    def _timed_evidence(
        self, subject: Measurable, limits: Sequence[Limit], evidence: Evidence, reference: Reference, rerun: Rerun
    ) -> Evidence:
        """Blocks for the sampled limits that can be judged (or recorded) here."""
        sampled = [limit for limit in limits if limit.metric.kind is Kind.SAMPLED]
        why, remedy = self.settings.no_timing
        if sampled and why:
            return replace(evidence, not_timed=why, not_timed_remedy=remedy)
        timed = [limit for limit in sampled if self.settings.update or can_be_judged(limit, reference)]
        if not timed:
            return evidence
        run = _TimedRun(self, subject, timed, reference, rerun.worker_command)
        recording = self.settings.update and not all(limit.is_bound for limit in timed)
        return run.record(evidence) if recording else run.judge(evidence)

    def _accept(
        self, limits: Sequence[Limit], evidence: Evidence, reference: Reference, verdicts: Sequence[Verdict]
    ) -> tuple[Verdict, ...]:
        """Store the evidence; limits against the baseline become RECORDED, bounds stay judged."""
        case = evidence.case
        times = any(limit.metric.kind is Kind.SAMPLED and not limit.is_bound for limit in limits) and evidence.blocks
        if not evidence.blocks and not evidence.facts:
            return tuple(verdicts)  # nothing was measured that a baseline holds
        entry = entry_of(evidence, revision(self.settings.root), reference.here.id if times else "")
        self.store.accept(case.group, case.key, entry, reference.here if times else None)
        stored = replace(reference, entry=self.store.entry(case.group, case.key))
        return tuple(
            verdict if limit.is_bound or not _is_stored(limit, evidence) else _recorded(judge(limit, evidence, stored))
            for limit, verdict in zip(limits, verdicts, strict=True)
        )


@dataclass(frozen=True)
class _TimedRun:
    """Getting the blocks for one case."""

    session: Session
    subject: Measurable
    limits: Sequence[Limit]
    reference: Reference
    command: WorkerCommand

    def judge(self, evidence: Evidence) -> Evidence:
        """Screen in place; confirm in fresh processes what looks bad or cannot be told."""
        evidence = replace(evidence, yardstick=self._yardstick())
        self._tell("screening in place", 0, 1)
        seed = self.session.settings.seed
        screened = evidence.with_blocks((self._in_place().block(seed),))
        if self._is_settled(screened, screening=True):
            return screened
        settings, source, start = self.session.settings, self._fresh(), time.monotonic()
        confirmed = evidence
        for number in range(1, settings.max_blocks + 1):
            self._tell("confirming in fresh processes", number, settings.max_blocks)
            confirmed = confirmed.with_blocks((*confirmed.blocks, source.block(seed + number)))
            spent = time.monotonic() - start > settings.budget_s
            if number >= _FIRST_LOOK and (spent or self._is_settled(confirmed, screening=False)):
                break
        return confirmed

    def record(self, evidence: Evidence) -> Evidence:
        """The fresh blocks that a baseline is made of."""
        evidence = replace(evidence, yardstick=self._yardstick())
        settings, source = self.session.settings, self._fresh()
        for number in range(1, settings.record_blocks + 1):
            self._tell("recording in fresh processes", number, settings.record_blocks)
            evidence = evidence.with_blocks((*evidence.blocks, source.block(settings.seed + number)))
        return evidence

    def _is_settled(self, evidence: Evidence, screening: bool) -> bool:
        """Whether no limit needs more blocks. A first look in this process can acquit, never convict."""
        verdicts = judge_all(self.limits, evidence, self.reference)
        open_ones = {Status.INCONCLUSIVE, Status.REGRESSED} if screening else {Status.INCONCLUSIVE}
        return not any(verdict.status in open_ones for verdict in verdicts)

    def _yardstick(self) -> str:
        """The one that the baseline used, so that the two can be compared."""
        entry = self.reference.entry
        stored = entry.time.get(self.reference.here.id) if entry else None
        known = stored is not None and not self.session.settings.update
        return stored.yardstick if stored and known else self.subject.default_yardstick()

    def _names(self) -> tuple[str, ...]:
        needed = {name for limit in self.limits for name in arms_needed(limit)}
        return tuple(name for name in (CANDIDATE, ORIGINAL, YARDSTICK) if name in needed)

    def _in_place(self) -> BlockSource:
        arms = _arms(self.subject, self._names(), self._yardstick())
        return InPlace(arms, self.session.settings.threads)

    def _fresh(self) -> BlockSource:
        names, yardstick = self._names(), self._yardstick()
        threads = self.session.settings.threads
        return Fresh(
            self.command,
            lambda seed, answer: WorkerOrder(self.subject.case.key, names, yardstick, seed, threads, answer),
            self.session.settings.invoked_from,
        )

    def _tell(self, what: str, done: int, total: int) -> None:
        tell(f"{self.subject.case.key}: {what}", done, total)


def _arms(subject: Measurable, names: Sequence[str], yardstick: str) -> dict[str, Arm]:
    return {name: subject.arm(name, yardstick) for name in names}


def _is_stored(limit: Limit, evidence: Evidence) -> bool:
    """Whether this run measured what the limit's baseline is made of."""
    match limit.metric.kind:
        case Kind.SAMPLED:
            return bool(evidence.blocks)
        case Kind.PAIRED:
            return evidence.candidate.scores is not None
        case Kind.EXACT:
            return limit.metric.stored_name in evidence.candidate.exact


def _recorded(verdict: Verdict) -> Verdict:
    return replace(
        verdict,
        status=Status.RECORDED,
        sentence=f"{verdict.metric} was recorded as the baseline",
        details=(),
        remedy="",
    )
