"""One case beside a base revision: facts and blocks of both, from fresh processes, until the verdict is clear."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from perfsuite.engine.messages import BASE_VIEW, CANDIDATE_VIEW, NOT_COLLECTED, Measured, Run
from perfsuite.engine.sources import (
    PAIRS_PLAN,
    Pairs,
    Sampled,
    Served,
    UnsoundTwinsError,
    UnusedBaseError,
    ViewFailedError,
)
from perfsuite.engine.workers import WorkerGoneError, Workers
from perfsuite.errors import UsageError
from perfsuite.gate.baseline import Baseline, Budget
from perfsuite.gate.beside import PAIRS_PRIOR, TWINS_PRIOR
from perfsuite.gate.effects import why_not_counted
from perfsuite.gate.judge import judge_all
from perfsuite.gate.sampled import precision_needed
from perfsuite.measure.clock import Deadline
from perfsuite.measure.latency import Plan
from perfsuite.metric import PerExample
from perfsuite.patterns import first_of
from perfsuite.progress import tell
from perfsuite.session.exact import is_wanted, merged
from perfsuite.session.measurable import Measurable
from perfsuite.session.revision import BaseCommit, NoCommit, resolve_base, resolve_commit
from perfsuite.session.settings import ACCEPTED, Rerun, Settings
from perfsuite.session.submodules import submodule_notes
from perfsuite.session.worktrees import BaseTree, Worktrees
from perfsuite.spec import BASE, CANDIDATE, BesideBase, Evidence, Limit, Status, Verdict
from perfsuite.stats.blocks import block_effect
from perfsuite.stats.decision import Spread, spread_of
from perfsuite.stats.moderation import fit_prior

CONTROL_BLOCKS = 2
_ENOUGH = 2
_SHOWN = 3  # files that git ignores
_CONTROL_VIEW = "control"


@dataclass(frozen=True)
class Base:
    """A base revision, checked out; ``missing`` says why there is none."""

    name: str
    tree: BaseTree | None = None
    missing: str = ""


@dataclass
class Bases:
    """The base revisions of a session, and what its cases have taught about spreads."""

    settings: Settings
    commit: BaseCommit | None  # None: each case has its own
    worktrees: Worktrees
    _spreads: dict[tuple[bool, str], list[Spread]] = field(default_factory=dict)  # by twins or not, and quantity
    unsound: list[str] = field(default_factory=list)  # why cases were not measured as twins
    broken: list[str] = field(default_factory=list)  # why cases that the base has could not be measured there
    compared: int = 0  # cases that were measured on both sides

    @staticmethod
    def of(settings: Settings) -> Bases:
        """Raises UsageError where there is no repository, or no such revision."""
        commit = None if settings.base == ACCEPTED else resolve_base(settings.root, settings.base)
        worktrees = Worktrees(settings.root, settings.base_build or None)
        return Bases(settings, commit, worktrees)

    def base(self, accepted_at: str | None) -> Base:
        """The base of a case; ``accepted_at`` is the commit of its baseline, if it has one."""
        if self.commit is None and accepted_at is None:
            return Base(ACCEPTED, missing="no baseline is stored for it")
        found = self.commit or resolve_commit(self.settings.root, accepted_at or "")
        if isinstance(found, NoCommit):
            return Base(ACCEPTED, missing=f"{found.why}; {found.remedy}")
        name = f"{found.asked} ({found.sha[:12]})"
        try:
            return Base(name, self.worktrees.checkout(found.sha))
        except UsageError as error:  # it has no such folder yet: everything in it is new
            return Base(name, missing=error.what)

    def spreads(self) -> Mapping[tuple[bool, str], Spread]:
        """What the cases so far have shown of each quantity, as twins and in pairs."""
        return {
            (twins, quantity): fit_prior(found, TWINS_PRIOR if twins else PAIRS_PRIOR)
            for (twins, quantity), found in self._spreads.items()
        }

    def learn(self, limits: Sequence[Limit], evidence: Evidence) -> None:
        """Keep the spreads of a finished case."""
        blocks = evidence.beside_base
        sampled = {limit.metric.quantity: limit for limit in limits if limit.is_sampled and len(blocks) > 1}
        for quantity, limit in sampled.items():
            if not why_not_counted(limit, blocks, (CANDIDATE, BASE)):
                effects = [block_effect(block, CANDIDATE, BASE, quantity).value for block in blocks]
                self._spreads.setdefault((evidence.base.twins, quantity), []).append(spread_of(effects))

    def notes(self) -> Iterator[str]:
        """What a person should know of the comparison as a whole."""
        if self.commit is not None:
            yield f"base: {self.commit.description}"
        yield from submodule_notes(self.settings.root)
        for why in dict.fromkeys(self.unsound):
            yield f"measured in pairs of processes, because {why}"
        if ignored := self.worktrees.ignored:
            yield (
                "files that git ignores are the working tree's on both sides, whatever the base would have: "
                f"{first_of(ignored, _SHOWN)}"
            )
        if self.failure:
            yield f"{self.failure}; nothing was compared, so this run fails"

    @property
    def failure(self) -> str:
        """Why no case could be compared although the base has some; empty where one was, or all are new."""
        return "" if self.compared or not self.broken else f"no test could be measured on the base: {self.broken[0]}"

    @property
    def trusts_twins(self) -> bool:
        """One case may replace something for itself; two tell of the package."""
        arms = self.settings.arms
        return arms == "twins" or (arms == "auto" and len(self.unsound) < _ENOUGH)

    def close(self) -> None:
        self.worktrees.close()


@dataclass(frozen=True)
class BaseRun:
    """Getting the base's facts and the blocks for one case."""

    bases: Bases
    subject: Measurable
    limits: Sequence[Limit]
    baseline: Baseline
    budget: Budget
    rerun: Rerun
    workers: Workers

    def measure(self, evidence: Evidence, base: Base) -> Evidence:
        """The evidence with what the base has shown, or with why it has shown nothing."""
        if base.tree is None:
            return _without(evidence, base.missing)
        try:
            compared = self._compared(evidence, base, base.tree)
            self.bases.compared += 1
            return compared
        except ViewFailedError as error:
            if error.view == CANDIDATE_VIEW:
                raise
            if not _fails_there(error.reason, self.rerun.item, base.tree):
                return _without(evidence, f"it is new since {base.name} ({error.reason})")
            return self._broken(evidence, f"it fails on {base.name} ({error.reason})", _BUILD_IT)
        except UnusedBaseError as error:
            return self._broken(evidence, error.what, error.remedy)

    def _compared(self, evidence: Evidence, base: Base, tree: BaseTree) -> Evidence:
        if not self.bases.trusts_twins:
            return self._sample_until_decided(evidence, base, tree, twins=False)
        return self._as_twins(evidence, base, tree)

    def _as_twins(self, evidence: Evidence, base: Base, tree: BaseTree) -> Evidence:
        """Some code cannot be loaded twice in one process, so what fails there is tried in a process each."""
        try:
            return self._sample_until_decided(evidence, base, tree, twins=True)
        except (UnsoundTwinsError, ViewFailedError, WorkerGoneError) as error:
            hung = isinstance(error, WorkerGoneError) and error.hung
            if hung or self.bases.settings.arms == "twins":
                raise
            why = error.what if isinstance(error, UnsoundTwinsError) else "both in one process failed"
        compared = self._sample_until_decided(evidence, base, tree, twins=False)
        self.bases.unsound.append(why)
        return compared

    def _sample_until_decided(self, evidence: Evidence, base: Base, tree: BaseTree, twins: bool) -> Evidence:
        shown = {CANDIDATE_VIEW: None, BASE_VIEW: str(tree.top)}
        source = self._source("beside", tree, twins, shown, self.bases.settings.max_blocks)
        timed, facts = any(limit.is_sampled for limit in self.limits), is_wanted(self.limits)
        self._tell(f"beside {base.name}", 0)
        first = source.take(1, facts=facts, timed=timed)
        evidence = replace(evidence, base=BesideBase(twins=twins))
        if facts and self.bases.settings.base != ACCEPTED:
            evidence = _measured_beside(evidence, first.measured)
        if not timed:
            return evidence
        for seen in self._blocks(evidence, source, first):
            evidence = seen
            if self._is_settled(seen):
                break
        if any(verdict.status is Status.REGRESSED for verdict in self._verdicts(evidence)):
            evidence = self._with_control(evidence, tree, twins)
            if self.bases.settings.profile:
                evidence = replace(evidence, profiles=source.profiles(1))
        return evidence

    def _blocks(self, evidence: Evidence, source: Served | Pairs, first: Sampled) -> Iterator[Evidence]:
        """The evidence with one more block each time, while there is time."""
        settings = self.bases.settings
        budget = Deadline.after(settings.budget_s)
        for number in range(1, settings.max_blocks + 1):
            block = first.block if number == 1 else source.block(number)
            assert block is not None
            evidence = replace(evidence, beside_base=(*evidence.beside_base, block))
            yield evidence
            if budget.is_over:
                return
            self._tell("beside the base", number)

    def _with_control(self, evidence: Evidence, tree: BaseTree, twins: bool) -> Evidence:
        """The base beside itself: before an item fails, the session must have shown that it can tell nothing apart."""
        self._tell("the base beside itself", 0)
        views = {_CONTROL_VIEW: str(tree.top), BASE_VIEW: str(tree.top)}
        source = self._source("control", tree, twins, views, CONTROL_BLOCKS)
        return replace(evidence, control=tuple(source.block(number) for number in range(1, CONTROL_BLOCKS + 1)))

    def _source(
        self, kind: str, tree: BaseTree, twins: bool, shown: Mapping[str, str | None], most: int
    ) -> Served | Pairs:
        settings = self.bases.settings
        scored = any(isinstance(limit.metric.probe, PerExample) for limit in self.limits)
        request = Run(
            self.rerun.item, self.rerun.following, self.subject.case.key, (CANDIDATE,), "",
            settings.seed, settings.threads, scored=scored, parameters=dict(self.rerun.parameters),
        )  # fmt: skip
        plan = settings.plan(Plan() if twins else PAIRS_PLAN, precision_needed(self.limits))
        name = f"{kind}-{tree.sha}-{twins}"
        if twins:
            return Served(self.workers, name, shown, request, plan, most)
        return Pairs(self.workers, name, shown, request, plan)

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


def _without(evidence: Evidence, why: str, remedy: str = "") -> Evidence:
    return replace(evidence, base=BesideBase(why, remedy))


def _measured_beside(evidence: Evidence, measured: Mapping[str, Measured]) -> Evidence:
    """Both are measured where nothing else ran before: here, earlier tests may have filled caches."""
    fresh, base = measured[CANDIDATE_VIEW], measured.get(BASE_VIEW)
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
