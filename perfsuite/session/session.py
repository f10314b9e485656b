"""One session: measures what the limits need, has it judged, and records what is accepted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import cast

import msgspec

from perfsuite.baseline.identity import differing
from perfsuite.baseline.machine import Machine, this_machine
from perfsuite.baseline.schema import Entry
from perfsuite.baseline.store import Store
from perfsuite.errors import EngineError, UsageError
from perfsuite.executors.collecting import collected
from perfsuite.executors.jobs import Executor, Job, Measured, Want
from perfsuite.executors.server import WorkerServer
from perfsuite.executors.this_process import ThisProcess
from perfsuite.gate import base as base_gate
from perfsuite.gate.judge import judge, judge_all
from perfsuite.gate.limits import parse_limits
from perfsuite.gate.reference import Reference
from perfsuite.gate.timed import can_be_judged
from perfsuite.measure.metrics import AGREEMENT, SQNR
from perfsuite.progress import tell
from perfsuite.registry import Registries
from perfsuite.revisions.commits import revision
from perfsuite.session.base import BaseRun, Bases
from perfsuite.session.measurable import Measurable
from perfsuite.session.record import entry_of, judged_of
from perfsuite.session.settings import Acceptance, Judged, Rerun, Settings, WorkerDone
from perfsuite.session.signals import Interrupts
from perfsuite.session.timed import Here, TimedRun
from perfsuite.spec import CANDIDATE, ORIGINAL, Against, Context, Evidence, Facts, Kind, Limit, Metric, Status, Verdict
from perfsuite.stats.sequential import Errors
from perfsuite.stats.session_error import Allowance


class Session:
    """Judges cases one after the other. Close it when done.

    ``server`` is there if this process is a worker itself. ``executor`` makes what does the jobs that need a fresh
    process, when the first one does; ``here`` makes what takes a first look in this one.
    """

    def __init__(
        self,
        settings: Settings,
        registries: Registries | None = None,
        server: WorkerServer | None = None,
        executor: Callable[[], Executor] | None = None,
        here: Here = ThisProcess,
    ) -> None:
        self.settings = settings
        self.registries = registries or Registries()
        self.store = Store(settings.storage)
        self._server = server
        self._make_executor = executor
        self._made_executor: Executor | None = None
        self._here = here
        self._bases: Bases | None = None
        self._interrupts = Interrupts()
        self._allowance = Allowance.of(settings.alpha, settings.tests)
        self._originals: dict[tuple[object, ...], Facts] = {}
        self._leaks: dict[str, None] = {}  # that were met, in order

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
        if self._server is not None:
            return self._serve(self._server, subject, parsed)
        reference = self._reference(subject, rerun)
        evidence = Evidence(subject.case, _NOT_LOOKED_AT)
        evidence = self._timed_evidence(subject, parsed, evidence, reference, rerun)  # before anything observes it
        if rerun.leaks:
            evidence = self._exact_evidence_apart(subject, parsed, evidence, rerun)
        else:
            evidence = self._exact_evidence(subject, parsed, replace(evidence, context=subject.context()))
        if self.settings.base:
            evidence, reference = self._beside_base(subject, parsed, evidence, reference, rerun)
        verdicts = judge_all(parsed, evidence, reference)
        self._learn(parsed, verdicts, evidence, reference)
        acceptance = self._acceptance(parsed, evidence, reference) if self.settings.update else None
        if acceptance is not None:
            verdicts = self._recorded(acceptance, parsed, evidence, reference, verdicts)
        return replace(judged_of(verdicts, evidence, reference.entry), acceptance=acceptance)

    def record(self, acceptance: Acceptance) -> None:
        """Store what a gate has accepted: called once its test has passed. Raises BaselineError."""
        self.store.accept(acceptance.group, acceptance.key, acceptance.entry, acceptance.machine)

    def notes(self) -> tuple[str, ...]:
        return (*(self._bases.notes() if self._bases else ()), *self._leaks)

    @property
    def failure(self) -> str:
        """Why the session has failed as a whole, whatever its verdicts are; empty if it has not."""
        return self._bases.failure if self._bases else ""

    def close(self) -> None:
        """End the fresh processes and remove the checkouts. Safe to call again."""
        self._interrupts.hold()
        with ExitStack() as stack:  # closes all, whatever happens in between
            stack.callback(self._interrupts.off)
            for owner in (self._bases, self._made_executor):
                if owner is not None:
                    stack.callback(owner.close)

    def _serve(self, server: WorkerServer, subject: Measurable, limits: Sequence[Limit]) -> Judged:
        """In a worker: hand the arms over, and end the test when the session releases it."""
        job = server.job
        if job is None or job.case.key != subject.case.key:
            return Judged(())  # an earlier gate of the same test: not what this worker is for
        arms = {name: subject.arm(name, job.yardstick) for name in job.arms}
        server.at_measurement(arms, lambda: self._measured(subject, limits, job), subject.accelerator())
        raise WorkerDone

    def _measured(self, subject: Measurable, limits: Sequence[Limit], job: Job) -> Mapping[str, object]:
        """What a worker answers with, as plain builtins."""
        if "relations" in job.want:
            found = self._exact_evidence(subject, limits, Evidence(subject.case, subject.context()))
            measured = Measured(found.candidate, found.context, found.original, dict(found.relations))
        else:
            measured = Measured(self._facts(subject, CANDIDATE, "scores" in job.want), subject.context())
        return cast(Mapping[str, object], msgspec.to_builtins(measured))

    def _reference(self, subject: Measurable, rerun: Rerun) -> Reference:
        group = subject.case.group
        stored = self.store.read(self.store.path_of(group))
        errors = Errors(alpha=self._allowance.alpha, looks=self.settings.max_blocks)
        entry, here = stored.cases.get(subject.case.key), self._machine(subject)
        return Reference(
            entry, here, stored.machines, rerun.update_command, errors=errors, budget_s=self.settings.budget_s,
            another=differing(entry.of, subject.case.of) if entry else (),
        )  # fmt: skip

    def _machine(self, subject: Measurable) -> Machine:
        return this_machine(self.settings.threads, subject.accelerator())

    def _exact_evidence(self, subject: Measurable, limits: Sequence[Limit], evidence: Evidence) -> Evidence:
        """Everything without noise. The original's facts are measured only where a limit relates to them."""
        metrics = [limit.metric for limit in limits]
        facts: dict[str, Facts] = {}
        if subject.has_facts(metrics):
            tell(f"{subject.case.key}: exact metrics", 0, 1)
            scored = any(metric.kind is Kind.PAIRED for metric in metrics)
            facts[CANDIDATE] = self._facts(subject, CANDIDATE, scored)
            if any(metric.against is Against.ORIGINAL and metric.kind is not Kind.SAMPLED for metric in metrics):
                facts[ORIGINAL] = self._facts_of_original(subject, scored)
        return replace(evidence, facts=facts, relations=_relations(subject, metrics), information=subject.information())

    def _exact_evidence_apart(
        self, subject: Measurable, limits: Sequence[Limit], evidence: Evidence, rerun: Rerun
    ) -> Evidence:
        """The same from a fresh process, where this one has what earlier tests have left in it."""
        self._leaks.update(dict.fromkeys(rerun.leaks))
        metrics = [limit.metric for limit in limits]
        if not subject.has_facts(metrics):
            return replace(evidence, context=subject.context())
        want: set[Want] = {"facts", "relations"}
        if any(metric.kind is Kind.PAIRED for metric in metrics):
            want.add("scores")
        job = msgspec.structs.replace(rerun.job(subject.case, self.settings), want=frozenset(want))
        with closing(collected(self._executor(), [job])) as results:
            found = next(results).measured[CANDIDATE]
        facts = {CANDIDATE: found.facts, ORIGINAL: found.original}
        return replace(evidence, facts=facts, context=found.context, relations=found.relations)

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

    def _beside_base(
        self, subject: Measurable, limits: Sequence[Limit], evidence: Evidence, reference: Reference, rerun: Rerun
    ) -> tuple[Evidence, Reference]:
        """Blocks and facts of the base for the tolerances."""
        concerned = [limit for limit in limits if base_gate.concerns(limit)]
        why, remedy = self.settings.no_timing
        if not concerned:
            return evidence, reference
        if why:
            return replace(evidence, not_timed=why, not_timed_remedy=remedy), reference
        executor = self._executor()
        if self._bases is None:
            self._bases = Bases.of(self.settings)
        run = BaseRun(self._bases, subject, concerned, reference, rerun, executor)
        return run.judge(evidence, self._bases.base(_accepted_at(reference.entry)))

    def _learn(
        self, limits: Sequence[Limit], verdicts: Sequence[Verdict], evidence: Evidence, reference: Reference
    ) -> None:
        """Pass on what the case leaves of the session's error, and keep what it shows of the spread."""
        times = [verdict for limit, verdict in zip(limits, verdicts, strict=True) if _is_time(limit)]
        if times:
            self._allowance = self._allowance.after(any(verdict.status is Status.REGRESSED for verdict in times))
        if self._bases is not None and reference.base is not None:
            self._bases.learn(evidence, reference.base)

    def _executor(self) -> Executor:
        if self._made_executor is None:
            if self._make_executor is None:
                raise EngineError("this session cannot start fresh processes", "run it through pytest")
            self._interrupts.on()
            self._made_executor = self._make_executor()
        return self._made_executor

    def _timed_evidence(
        self, subject: Measurable, limits: Sequence[Limit], evidence: Evidence, reference: Reference, rerun: Rerun
    ) -> Evidence:
        """Blocks for the sampled limits that can be judged (or recorded) here, and are not judged beside a base."""
        sampled = [limit for limit in limits if _is_time(limit)]
        if self.settings.base:
            sampled = [limit for limit in sampled if not base_gate.concerns(limit)]
        why, remedy = self.settings.no_timing
        if sampled and why:
            return replace(evidence, not_timed=why, not_timed_remedy=remedy)
        timed = [limit for limit in sampled if self.settings.update or can_be_judged(limit, reference)]
        if not timed:
            return evidence
        run = TimedRun(self.settings, subject, timed, reference, rerun, self._executor, self._here)
        recording = self.settings.update and not all(limit.is_bound for limit in timed)
        return run.record(evidence) if recording else run.judge(evidence)

    def _acceptance(self, limits: Sequence[Limit], evidence: Evidence, reference: Reference) -> Acceptance | None:
        """What the baseline will hold; None where nothing was measured that a baseline holds."""
        if not evidence.blocks and not evidence.facts:
            return None
        times = any(_is_time(limit) and not limit.is_bound for limit in limits) and evidence.blocks
        machine = reference.here if times else None
        entry = entry_of(evidence, revision(self.settings.root), machine.id if machine else "")
        return Acceptance(evidence.case.group, evidence.case.key, entry, machine)

    def _recorded(
        self,
        acceptance: Acceptance,
        limits: Sequence[Limit],
        evidence: Evidence,
        reference: Reference,
        verdicts: Sequence[Verdict],
    ) -> tuple[Verdict, ...]:
        """Limits against the baseline become RECORDED, bounds stay judged."""
        entry = self.store.preview(acceptance.group, acceptance.key, acceptance.entry, acceptance.machine)
        stored = replace(reference, entry=entry, another=())
        return tuple(
            verdict if limit.is_bound or not _is_stored(limit, evidence) else _recorded(judge(limit, evidence, stored))
            for limit, verdict in zip(limits, verdicts, strict=True)
        )


def _relations(subject: Measurable, metrics: Sequence[Metric]) -> Mapping[str, float]:
    """What relates the candidate to its original: what we measure, and what metrics that were added do."""
    added = [m for m in metrics if m.against is Against.ORIGINAL and m.kind is Kind.EXACT and m.measure]
    arms = [subject.subject(arm) for arm in (CANDIDATE, ORIGINAL)] if added else []
    needed = any(metric.name in (SQNR.name, AGREEMENT.name) for metric in metrics)
    return {**subject.relations(needed), **{m.name: m.measure(*arms) for m in added if m.measure}}


_NOT_LOOKED_AT = Context("", "")


def _is_time(limit: Limit) -> bool:
    return limit.metric.kind is Kind.SAMPLED


def _accepted_at(entry: Entry | None) -> str | None:
    """The commit at which a case's baseline was accepted: its time's, which is the rarest, else what there is."""
    if entry is None:
        return None
    parts = (*entry.time.values(), *(part for part in (entry.exact, entry.scores) if part))
    return next((part.commit for part in parts), None)


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
