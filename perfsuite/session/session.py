"""One session: measures what the limits need, has it judged, and records what is accepted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from typing import cast

import msgspec

from perfsuite.baseline.identity import differing
from perfsuite.baseline.machine import Machine, this_machine
from perfsuite.baseline.schema import Entry
from perfsuite.baseline.store import Store
from perfsuite.errors import EngineError, UnavailableError, UsageError
from perfsuite.executors.collecting import collected
from perfsuite.executors.jobs import Executor, Job, Measured
from perfsuite.executors.server import WorkerServer
from perfsuite.executors.this_process import ThisProcess
from perfsuite.gate.baseline import Baseline, BaseRevision, Budget
from perfsuite.gate.expected import expected
from perfsuite.gate.judge import judge, judge_all
from perfsuite.gate.limits import parse_limits
from perfsuite.gate.sampled import can_be_judged, was_counted
from perfsuite.gate.verdicts import not_available
from perfsuite.measure.counters import counters_of
from perfsuite.metric import Against, PerExample
from perfsuite.registry import Registries
from perfsuite.revisions.commits import revision
from perfsuite.session.base import Base, BaseRun, Bases
from perfsuite.session.exact import Originals, exact_evidence, is_wanted
from perfsuite.session.measurable import Measurable
from perfsuite.session.proofs import Proofs
from perfsuite.session.proving import Prover, uncovered_notes, why_not_covered
from perfsuite.session.record import entry_of, judged_of
from perfsuite.session.settings import ACCEPTED, Acceptance, Judged, Rerun, Settings, WorkerDone
from perfsuite.session.signals import Interrupts
from perfsuite.session.timed import Here, TimedRun
from perfsuite.spec import CANDIDATE, ORIGINAL, Audit, Context, Evidence, Limit, Status, Verdict
from perfsuite.stats.family_wise import FallbackBudget
from perfsuite.stats.sequential import Errors


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
        prover: Prover | None = None,
    ) -> None:
        self.settings = settings
        self.registries = registries or Registries()
        self.store = Store(settings.storage)
        self._server = server
        self._make_executor = executor
        self._made_executor: Executor | None = None
        self._here = here
        self._prover = prover
        self._proofs: Proofs | None = None
        self._bases: Bases | None = None
        self._interrupts = Interrupts()
        self._error_budget = FallbackBudget.of(settings.alpha, settings.tests)
        self._originals: Originals = {}
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
            return self._serve(self._server, subject, parsed, rerun)
        try:
            subject.check_runtime()
        except UnavailableError as error:
            return Judged(tuple(not_available(limit, subject.case, error) for limit in parsed))
        baseline, base = self._baseline(subject, parsed, rerun)
        budget = self._budget(parsed)
        evidence = Evidence(subject.case, _NOT_LOOKED_AT)
        evidence = self._sampled(subject, parsed, evidence, baseline, budget, rerun)  # before anything observes it
        if rerun.leaks:
            evidence = self._exact_evidence_apart(subject, parsed, evidence, rerun)
        else:
            evidence = self._exact_evidence(subject, parsed, replace(evidence, context=subject.context()))
        if base is not None:
            evidence = self._compared(subject, parsed, evidence, baseline, budget, rerun, base)
        verdicts = judge_all(parsed, evidence, baseline, budget)
        self._learn(parsed, verdicts, evidence)
        acceptance = self._acceptance(parsed, evidence, baseline) if self.settings.update else None
        if acceptance is not None:
            verdicts = self._recorded(acceptance, parsed, evidence, baseline, budget, verdicts)
        return replace(judged_of(verdicts, evidence, expected(evidence, baseline)), acceptance=acceptance)

    def record(self, acceptance: Acceptance) -> None:
        """Store what a gate has accepted: called once its test has passed. Raises BaselineError."""
        self.store.accept(acceptance.group, acceptance.key, acceptance.entry, acceptance.machine)

    def notes(self) -> tuple[str, ...]:
        uncovered = uncovered_notes(self._prover) if self._prover and self._bases else ()
        return (*(self._bases.notes() if self._bases else ()), *uncovered, *self._leaks)

    def audits(self) -> Mapping[str, Audit]:
        """By case, what timing it has shown although it was proven."""
        return self._bases.audited if self._bases else {}

    @property
    def failure(self) -> str:
        """Why the session has failed as a whole, whatever its verdicts are; empty if it has not."""
        if self._bases and self._bases.failure:
            return self._bases.failure
        if self.settings.require_covered and self._prover and self._bases:
            return why_not_covered(self._prover)
        return ""

    def close(self) -> None:
        """End the fresh processes and remove the checkouts. Safe to call again."""
        self._interrupts.hold()
        with ExitStack() as stack:  # closes all, whatever happens in between
            stack.callback(self._interrupts.off)
            for owner in (self._bases, self._made_executor):
                if owner is not None:
                    stack.callback(owner.close)

    def _serve(self, server: WorkerServer, subject: Measurable, limits: Sequence[Limit], rerun: Rerun) -> Judged:
        """In a worker: hand the arms over, and end the test when the session releases it."""
        job = server.job
        if job is None or job.case.key != subject.case.key:
            return Judged(())  # an earlier gate of the same test: not what this worker is for
        arms = {name: subject.arm(name, job.yardstick) for name in job.arms}
        find_facts = partial(self._measured, subject, limits, job)
        prove = partial(self._prover.prove, subject.subject(CANDIDATE), rerun.test) if self._prover else None
        server.at_measurement(arms, find_facts, subject.accelerator(), counters_of(limits), prove)
        raise WorkerDone

    def _measured(self, subject: Measurable, limits: Sequence[Limit], job: Job) -> Mapping[str, object]:
        """What a worker answers with, as plain builtins: beside a base, of the tolerances alone."""
        if "relations" not in job.want:
            limits = [limit for limit in limits if limit.is_tolerance and not limit.is_sampled]
            scored = "scores" in job.want
            limits = [limit for limit in limits if scored or not isinstance(limit.metric.probe, PerExample)]
        found = self._exact_evidence(subject, limits, Evidence(subject.case, subject.context()))
        measured = Measured(
            found.candidate, found.context, found.original, dict(found.relations), dict(found.explained)
        )
        return cast(Mapping[str, object], msgspec.to_builtins(measured))

    def _baseline(self, subject: Measurable, limits: Sequence[Limit], rerun: Rerun) -> tuple[Baseline, Base | None]:
        """What the case is judged against, and the base that it is to be measured beside, if there is one."""
        stored = self.store.read(self.store.path_of(subject.case.group))
        entry = stored.cases.get(subject.case.key)
        baseline = Baseline(
            entry, self._machine(subject), stored.machines, rerun.update_command,
            another=differing(entry.of, subject.case.of) if entry else (),
        )  # fmt: skip
        concerned = any(limit.is_tolerance for limit in limits)
        if not self.settings.base or not concerned or self.settings.no_timing[0]:
            return baseline, None
        if self._bases is None:
            self._bases = Bases.of(self.settings)
        base = self._bases.base(_accepted_at(entry))
        return replace(baseline, base=BaseRevision(base.name, self.settings.base == ACCEPTED)), base

    def _budget(self, limits: Sequence[Limit]) -> Budget:
        """Quantities are judged apart from each other, so they share what the test may err."""
        quantities = {limit.metric.quantity for limit in limits if limit.is_sampled}
        errors = Errors(alpha=self._error_budget.alpha / max(1, len(quantities)), looks=self.settings.max_blocks)
        return Budget(errors, self.settings.budget_s, self._bases.spreads() if self._bases else {})

    def _machine(self, subject: Measurable) -> Machine:
        return this_machine(self.settings.threads, subject.accelerator())

    def _exact_evidence(self, subject: Measurable, limits: Sequence[Limit], evidence: Evidence) -> Evidence:
        return exact_evidence(subject, limits, evidence, self.registries.metrics, self._originals)

    def _exact_evidence_apart(
        self, subject: Measurable, limits: Sequence[Limit], evidence: Evidence, rerun: Rerun
    ) -> Evidence:
        """The same from a fresh process, where this one has what earlier tests have left in it."""
        self._leaks.update(dict.fromkeys(rerun.leaks))
        if not is_wanted(limits):
            return replace(evidence, context=subject.context())
        want = frozenset({"facts", "scores", "relations"})
        job = msgspec.structs.replace(rerun.job(subject.case, self.settings), want=want)
        with closing(collected(self._executor(), [job])) as results:
            found = next(results).measured[CANDIDATE]
        facts = {CANDIDATE: found.facts, ORIGINAL: found.original}
        return replace(
            evidence, facts=facts, context=found.context, relations=found.relations, explained=found.explained
        )

    def _compared(
        self,
        subject: Measurable,
        limits: Sequence[Limit],
        evidence: Evidence,
        baseline: Baseline,
        budget: Budget,
        rerun: Rerun,
        base: Base,
    ) -> Evidence:
        """Beside the base, for the tolerances: by proof where both are one program, else by measuring both."""
        bases = self._bases
        assert bases is not None  # which base is one of
        concerned = [limit for limit in limits if limit.is_tolerance]

        def beside() -> Evidence:
            run = BaseRun(bases, subject, concerned, baseline, budget, rerun, self._executor())
            return run.measure(evidence, base)

        if self._prover is None:
            return beside()
        if self._proofs is None:
            self._proofs = Proofs(self._prover, self.settings, bases, self._executor)
        judged = partial(judge_all, limits, baseline=baseline, budget=budget)
        return self._proofs.compared(subject, limits, evidence, rerun, base, beside, judged)

    def _learn(self, limits: Sequence[Limit], verdicts: Sequence[Verdict], evidence: Evidence) -> None:
        """Pass on what the case leaves of the session's error, and keep what it shows of the spread."""
        sampled = [verdict for limit, verdict in zip(limits, verdicts, strict=True) if limit.is_sampled]
        if sampled and evidence.base.proof:
            self._error_budget = self._error_budget.untested()
        elif sampled:
            self._error_budget = self._error_budget.after(
                any(verdict.status is Status.REGRESSED for verdict in sampled)
            )
        if self._bases is not None:
            self._bases.learn(limits, evidence)

    def _executor(self) -> Executor:
        if self._made_executor is None:
            if self._make_executor is None:
                raise EngineError("this session cannot start fresh processes", "run it through pytest")
            self._interrupts.on()
            self._made_executor = self._make_executor()
        return self._made_executor

    def _sampled(
        self,
        subject: Measurable,
        limits: Sequence[Limit],
        evidence: Evidence,
        baseline: Baseline,
        budget: Budget,
        rerun: Rerun,
    ) -> Evidence:
        """Blocks for the sampled limits that can be judged (or recorded) here, and are not judged beside a base."""
        sampled = [limit for limit in limits if limit.is_sampled]
        why, remedy = self.settings.no_timing
        if sampled and why:
            return replace(evidence, not_timed=why, not_timed_remedy=remedy)
        if self.settings.base:
            sampled = [limit for limit in sampled if not limit.is_tolerance]
        timed = [limit for limit in sampled if self.settings.update or can_be_judged(limit, baseline)]
        if not timed:
            return evidence
        run = TimedRun(self.settings, subject, timed, baseline, budget, rerun, self._executor, self._here)
        recording = self.settings.update and not all(limit.is_bound for limit in timed)
        return run.record(evidence) if recording else run.measure(evidence)

    def _acceptance(self, limits: Sequence[Limit], evidence: Evidence, baseline: Baseline) -> Acceptance | None:
        """What the baseline will hold; None where nothing was measured that a baseline holds."""
        facts = evidence.candidate
        if not (evidence.blocks or facts.exact or facts.per_example):
            return None
        samples = any(limit.is_sampled and not limit.is_bound for limit in limits) and evidence.blocks
        machine = baseline.here if samples else None
        entry = entry_of(evidence, revision(self.settings.root), machine.id if machine else "")
        return Acceptance(evidence.case.group, evidence.case.key, entry, machine)

    def _recorded(
        self,
        acceptance: Acceptance,
        limits: Sequence[Limit],
        evidence: Evidence,
        baseline: Baseline,
        budget: Budget,
        verdicts: Sequence[Verdict],
    ) -> tuple[Verdict, ...]:
        """Limits against the baseline become RECORDED, bounds stay judged."""
        entry = self.store.preview(acceptance.group, acceptance.key, acceptance.entry, acceptance.machine)
        stored = replace(baseline, entry=entry, another=())
        return tuple(
            _recorded(judge(limit, evidence, stored, budget))
            if limit.is_tolerance and _is_stored(limit, evidence)
            else verdict
            for limit, verdict in zip(limits, verdicts, strict=True)
        )


_NOT_LOOKED_AT = Context("", "")


def _accepted_at(entry: Entry | None) -> str | None:
    """The commit at which a case's baseline was accepted: its time's, which is the rarest, else what there is."""
    if entry is None:
        return None
    parts = [
        *entry.time.values(), *(one for found in entry.sampled.values() for one in found.values()),
        *(part for part in (entry.exact, entry.scores) if part), *entry.flags.values(), *entry.numbers.values(),
    ]  # fmt: skip
    return next((part.commit for part in parts), None)


def _is_stored(limit: Limit, evidence: Evidence) -> bool:
    """Whether this run measured what the limit's baseline is made of."""
    metric = limit.metric
    if limit.is_sampled:
        return bool(evidence.blocks) and was_counted(limit, evidence.blocks)
    return metric.name in evidence.candidate.per_example or metric.stored_name in evidence.candidate.exact


def _recorded(verdict: Verdict) -> Verdict:
    return replace(
        verdict,
        status=Status.RECORDED,
        sentence=f"{verdict.metric} was recorded as the baseline",
        details=(),
        remedy="",
    )
