"""One case beside a base revision: facts and blocks of both, from fresh processes, until the verdict is clear."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

import msgspec

from perfsuite.case import EAGER
from perfsuite.errors import EngineError, UsageError
from perfsuite.executors.collecting import collected
from perfsuite.executors.failures import RevisionFailedError, UnusedBaseError, WorkerGoneError
from perfsuite.executors.fresh_processes import SIDE_BY_SIDE_PLAN
from perfsuite.executors.jobs import Executor, Job, Measured, Result, Want
from perfsuite.executors.messages import NOT_COLLECTED
from perfsuite.executors.processes_in_turns import IN_TURNS_PLAN
from perfsuite.gate.baseline import Baseline, Budget
from perfsuite.gate.beside import PAIRS_PRIOR, TWINS_PRIOR
from perfsuite.gate.effects import why_not_counted
from perfsuite.gate.judge import judge_all
from perfsuite.gate.sampled import precision_needed
from perfsuite.measure.clock import Deadline
from perfsuite.metric import PerExample
from perfsuite.patterns import counted, first_of
from perfsuite.progress import tell
from perfsuite.revisions.checkout import BaseTree, Checkouts
from perfsuite.revisions.commits import BaseCommit, NoCommit, resolve_base, resolve_commit
from perfsuite.revisions.submodules import submodule_notes
from perfsuite.session.exact import is_wanted, merged
from perfsuite.session.measurable import Measurable
from perfsuite.session.settings import ACCEPTED, Rerun, Settings
from perfsuite.spec import BASE, CANDIDATE, Audit, BesideBase, Block, Evidence, Limit, Status, Verdict
from perfsuite.stats.blocks import Effect, block_effect
from perfsuite.stats.decision import Spread
from perfsuite.stats.variance_shrinkage import learned_prior

CONTROL_BLOCKS = 2
_LAYOUTS = 2
_UNSOUND_CASES_TO_DISTRUST = 2
_SHOWN = 3  # files that git ignores
_CONTROL_REVISION = "control"


@dataclass(frozen=True)
class Base:
    """A base revision, which is checked out when it is first needed; ``missing`` says why there is none."""

    name: str
    sha: str = ""
    missing: str = ""


@dataclass
class Bases:
    """The base revisions of a session, and what its cases have taught about spreads."""

    settings: Settings
    commit: BaseCommit | None  # None: each case has its own
    checkouts: Checkouts
    _effects: dict[tuple[bool, str], list[Sequence[Effect]]] = field(default_factory=dict)  # by twins, and quantity
    unsound: list[str] = field(default_factory=list)  # why cases were not measured in one process
    broken: list[str] = field(default_factory=list)  # why cases that the base has could not be measured there
    compared: int = 0  # cases that were measured on both sides, or proven to be the same
    proven: dict[str, str] = field(default_factory=dict)  # by case: by what it was proven, so that nothing was timed
    timed: dict[str, str] = field(default_factory=dict)  # by case: why it could not be
    audited: dict[str, Audit] = field(default_factory=dict)  # proven cases that were timed all the same

    @staticmethod
    def of(settings: Settings) -> Bases:
        """Raises UsageError where there is no repository, or no such revision."""
        commit = None if settings.base == ACCEPTED else resolve_base(settings.root, settings.base)
        checkouts = Checkouts(settings.root, settings.base_build or None)
        return Bases(settings, commit, checkouts)

    def base(self, accepted_at: str | None) -> Base:
        """The base of a case; ``accepted_at`` is the commit of its baseline, if it has one."""
        if self.commit is None and accepted_at is None:
            return Base(ACCEPTED, missing="no baseline is stored for it")
        found = self.commit or resolve_commit(self.settings.root, accepted_at or "")
        if isinstance(found, NoCommit):
            return Base(ACCEPTED, missing=f"{found.why}; {found.remedy}")
        return Base(f"{found.asked} ({found.sha[:12]})", found.sha)

    def tree(self, base: Base) -> BaseTree | str:
        """Its files; or why there are none."""
        try:
            return self.checkouts.checkout(base.sha) if base.sha else base.missing
        except UsageError as error:  # it has no such folder yet: everything in it is new
            return error.what

    def spreads(self) -> Mapping[tuple[bool, str], Spread]:
        """What the cases so far have shown of each quantity, in one process and in two."""
        return {
            (twins, quantity): learned_prior(cases, TWINS_PRIOR if twins else PAIRS_PRIOR)
            for (twins, quantity), cases in self._effects.items()
        }

    def learn(self, limits: Sequence[Limit], evidence: Evidence) -> None:
        """Keep what the blocks of a finished case have shown."""
        blocks = evidence.beside_base
        sampled = {limit.metric.quantity: limit for limit in limits if limit.is_sampled and len(blocks) > 1}
        for quantity, limit in sampled.items():
            if not why_not_counted(limit, blocks, (CANDIDATE, BASE)):
                effects = [block_effect(block, CANDIDATE, BASE, quantity) for block in blocks]
                self._effects.setdefault((evidence.base.twins, quantity), []).append(effects)

    def notes(self) -> Iterator[str]:
        """What a person should know of the comparison as a whole."""
        if self.commit is not None:
            yield f"base: {self.commit.description}"
        yield from submodule_notes(self.settings.root)
        yield from self._notes_on_proofs()
        for why in dict.fromkeys(self.unsound):
            yield f"measured in two processes for each block, because {why}"
        if ignored := self.checkouts.ignored:
            yield (
                "files that git ignores are the working tree's on both sides, whatever the base would have: "
                f"{first_of(ignored, _SHOWN)}"
            )
        if self.failure:
            yield f"{self.failure}; nothing was compared, so this run fails"

    def _notes_on_proofs(self) -> Iterator[str]:
        for kind, count in Counter(self.proven.values()).items():
            yield f"not timed, because proven to be the {kind}: {counted(count, 'case')}"
        reasons = Counter(self.timed.values())
        for why, count in reasons.most_common(_SHOWN):
            yield f"timed: {counted(count, 'case')}, because {why}"
        if len(reasons) > _SHOWN:
            yield f"timed: {counted(sum(n for _, n in reasons.most_common()[_SHOWN:]), 'case')}, for other reasons"
        for case, audit in self.audited.items():
            yield f"{case}: {audit.sentence}"

    @property
    def failure(self) -> str:
        """Why no case could be compared although the base has some; empty where one was, or all are new."""
        return (
            ""
            if self.compared or self.proven or not self.broken
            else f"no test could be measured on the base: {self.broken[0]}"
        )

    @property
    def trusts_one_process(self) -> bool:
        """After two unsound cases no in-process A/B is tried any more: the package is the cause, and not one test."""
        isolation = self.settings.isolation
        return isolation == "inprocess" or (isolation == "auto" and len(self.unsound) < _UNSOUND_CASES_TO_DISTRUST)

    def close(self) -> None:
        self.checkouts.close()


class UnsoundError(EngineError):
    """The two revisions must not share a process."""


@dataclass(frozen=True)
class BaseRun:
    """Getting the base's facts and the blocks for one case."""

    bases: Bases
    subject: Measurable
    limits: Sequence[Limit]
    baseline: Baseline
    budget: Budget
    rerun: Rerun
    executor: Executor

    def measure(self, evidence: Evidence, base: Base) -> Evidence:
        """The evidence with what the base has shown, or with why it has shown nothing."""
        tree = self.bases.tree(base)
        if isinstance(tree, str):
            return _without(evidence, tree)
        try:
            compared = self._compared(evidence, base, tree)
            self.bases.compared += 1
            return compared
        except RevisionFailedError as error:
            if error.revision == CANDIDATE:
                raise
            if not _fails_there(error.reason, self.rerun.item, tree):
                return _without(evidence, f"it is new since {base.name} ({error.reason})")
            return self._broken(evidence, f"it fails on {base.name} ({error.reason})", _BUILD_IT)
        except UnusedBaseError as error:
            return self._broken(evidence, error.what, error.remedy)

    def _compared(self, evidence: Evidence, base: Base, tree: BaseTree) -> Evidence:
        if self._share_a_process:
            return self._in_one_process(evidence, base, tree)
        return self._sample_until_decided(True, evidence, base, tree)

    @property
    def _share_a_process(self) -> bool:
        """Whether both revisions may: another runtime has threads of its own, which take cores from its neighbour's."""
        is_eager = self.subject.case.is_callable or self.subject.case.runtime == EAGER
        return self.bases.trusts_one_process and (is_eager or self.bases.settings.isolation == "inprocess")

    def _in_one_process(self, evidence: Evidence, base: Base, tree: BaseTree) -> Evidence:
        """Some code cannot be loaded twice in one process, so what fails there is tried in a process each."""
        try:
            return self._sample_until_decided(False, evidence, base, tree)
        except (UnsoundError, RevisionFailedError, WorkerGoneError) as error:
            hung = isinstance(error, WorkerGoneError) and error.hung
            if hung or self.bases.settings.isolation == "inprocess":
                raise
            why = error.what if isinstance(error, UnsoundError) else "both in one process failed"
        compared = self._sample_until_decided(True, evidence, base, tree)
        self.bases.unsound.append(why)
        return compared

    def _sample_until_decided(self, apart: bool, evidence: Evidence, base: Base, tree: BaseTree) -> Evidence:
        """``apart``: whether each revision has a process of its own."""
        jobs = self._jobs(apart, {CANDIDATE: None, BASE: str(tree.top)})
        self._tell(f"beside {base.name}", 0)
        with closing(collected(self.executor, jobs)) as results:
            first = next(results)
            if first.unsound:
                raise UnsoundError(first.unsound)
            evidence = replace(evidence, base=BesideBase(twins=not apart))
            if first.measured and self.bases.settings.base != ACCEPTED:
                evidence = _measured_beside(evidence, first.measured)
            if first.block is None:
                return evidence
            for seen in self._blocks(evidence, first, results):
                evidence = seen
                if self._is_settled(seen):
                    break
        if any(verdict.status is Status.REGRESSED for verdict in self._verdicts(evidence)):
            evidence = self._with_control(evidence, tree, apart, first.machine)
            if self.bases.settings.profile:
                evidence = replace(evidence, profiles=self._profiles(jobs[0]))
        return evidence

    def _blocks(self, evidence: Evidence, first: Result, others: Iterator[Result]) -> Iterator[Evidence]:
        """The evidence with one more block each time, while there is time."""
        settings = self.bases.settings
        budget = Deadline.after(settings.budget_s)
        for number, result in enumerate(chain((first,), others), 1):
            evidence = replace(evidence, beside_base=(*evidence.beside_base, _block_of(result)))
            yield evidence
            if budget.is_over:
                return
            self._tell("beside the base", number)

    def _with_control(self, evidence: Evidence, tree: BaseTree, apart: bool, machine: str) -> Evidence:
        """The base beside itself: before an item fails, the session must have shown that it can tell nothing apart."""
        self._tell("the base beside itself", 0)
        jobs = self._jobs(apart, {_CONTROL_REVISION: str(tree.top), BASE: str(tree.top)})[:CONTROL_BLOCKS]
        blocks = [msgspec.structs.replace(job, want=frozenset({"block"})) for job in jobs]
        return replace(evidence, control=tuple(map(_block_of, collected(self.executor, blocks, machine))))

    def _profiles(self, job: Job) -> Mapping[str, Mapping[str, float]]:
        """Own time by operator, of the candidate and of the base."""
        wanted = msgspec.structs.replace(job, want=frozenset({"profiles"}), examined=True)
        (result,) = collected(self.executor, [wanted])
        return result.profiles

    def _jobs(self, apart: bool, revisions: dict[str, str | None]) -> list[Job]:
        """As many as may be needed. The first one finds the facts, too, and is the only one where nothing is timed."""
        settings, timed = self.bases.settings, any(limit.is_sampled for limit in self.limits)
        want: list[Want] = ["block"] if timed else []
        if is_wanted(self.limits):
            want.append("facts")
        if any(isinstance(limit.metric.probe, PerExample) for limit in self.limits):
            want.append("scores")
        precision = precision_needed(self.limits)
        plan = settings.plan(IN_TURNS_PLAN if apart else SIDE_BY_SIDE_PLAN, precision)
        if not apart and 0 < precision < TWINS_PRIOR.sd:  # which sampling on does not make less
            plan = plan.in_layouts(_LAYOUTS)
        job = self.rerun.job(self.subject.case, settings)
        job = msgspec.structs.replace(job, revisions=revisions, apart=apart, plan=plan)
        first = msgspec.structs.replace(job, want=frozenset(want))
        others = range(2, settings.max_blocks + 1) if timed else ()
        return [first, *(msgspec.structs.replace(job, number=number, examined=True) for number in others)]

    def _is_settled(self, evidence: Evidence) -> bool:
        return not any(verdict.is_open for verdict in self._verdicts(evidence))

    def _verdicts(self, evidence: Evidence) -> tuple[Verdict, ...]:
        """On the limits that blocks are for."""
        return judge_all([limit for limit in self.limits if limit.is_sampled], evidence, self.baseline, self.budget)

    def _broken(self, evidence: Evidence, why: str, remedy: str) -> Evidence:
        """What the base has and cannot run; a session of nothing else has compared nothing, and must say so."""
        self.bases.broken.append(why)
        return _without(evidence, why, remedy)

    def _tell(self, what: str, done: int) -> None:
        tell(f"{self.subject.case.key}: {what}", done, self.bases.settings.max_blocks)


def _block_of(result: Result) -> Block:
    assert result.block is not None
    return result.block


def _without(evidence: Evidence, why: str, remedy: str = "") -> Evidence:
    return replace(evidence, base=BesideBase(why, remedy))


def _measured_beside(evidence: Evidence, measured: Mapping[str, Measured]) -> Evidence:
    """Both are measured where nothing else ran before: here, earlier tests may have filled caches."""
    fresh, base = measured[CANDIDATE], measured.get(BASE)
    facts = {**evidence.facts, CANDIDATE: merged(evidence.candidate, fresh.facts)}
    if base is None:
        return replace(evidence, facts=facts, context=fresh.context)
    of_base = replace(evidence.base, context=base.context)
    return replace(evidence, facts={**facts, BASE: base.facts}, context=fresh.context, base=of_base)


_BUILD_IT = (
    "if the base has to be built first, say how (--perf-base-build); without --perf-base stored baselines judge it, too"
)


def _fails_there(reason: str, item: str, tree: BaseTree) -> bool:
    """Whether a test that did not run on the base is there, and not new since: the base's own tests tell."""
    path, _, name = item.partition("::")
    file = tree.root / Path(path)
    function = name.partition("[")[0].rpartition("::")[2]
    known = file.is_file() and f"def {function}(" in file.read_text(encoding="utf-8", errors="replace")
    return known and not reason.endswith(NOT_COLLECTED)  # a parameter may be new
