"""What was sampled in blocks: tolerances beside something accepted, relations to the original, raw bounds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

from perfsuite.baseline.schema import StoredSamples
from perfsuite.gate import beside
from perfsuite.gate.baseline import Baseline, Budget
from perfsuite.gate.effects import (
    RAW_PRIOR,
    STATUS_OF,
    effects,
    given_up,
    longer,
    orientation,
    probe_of,
    why_not_counted,
)
from perfsuite.gate.verdicts import no_baseline, verdict
from perfsuite.metric import ELAPSED
from perfsuite.spec import (
    BASE,
    CANDIDATE,
    ORIGINAL,
    YARDSTICK,
    Against,
    Block,
    Evidence,
    Limit,
    LimitKind,
    Status,
    Verdict,
)
from perfsuite.stats.blocks import Effect
from perfsuite.stats.decision import Decision, Outcome, Spread
from perfsuite.stats.sequential import Errors, interim_decision
from perfsuite.stats.variance_shrinkage import shrunk_spread
from perfsuite.units import format_value

RELATION_PRIOR = Spread(0.02, 4)  # between processes, before anything is known (docs/judging.md)

_SHARPER = 3  # times than the tolerance: unchanged code then mostly passes with its first block


def judge(limit: Limit, evidence: Evidence, baseline: Baseline, budget: Budget) -> Verdict:
    revision = baseline.base if limit.is_tolerance else None
    if revision and evidence.base.proof:
        return _proven(limit, evidence)
    if not revision and not evidence.not_timed and not can_be_judged(limit, baseline):
        return _foreign(limit, evidence, baseline)
    blocks, arms = (evidence.beside_base, (CANDIDATE, BASE)) if revision else (evidence.blocks, arms_needed(limit))
    if not blocks:
        return _not_measured(limit, evidence, evidence.not_timed or "there is no block of samples")
    if why := why_not_counted(limit, blocks, arms):
        return _not_measured(limit, evidence, why)
    if revision:
        return beside.judge(limit, evidence, baseline, budget, beside.beside_base(limit, evidence, revision, budget))
    if limit.is_tolerance:
        return _judge_stored(limit, evidence, baseline, budget)
    errors = budget.errors_over(evidence.blocks)
    return (_judge_relation if ORIGINAL in arms else _judge_raw)(limit, evidence, errors)


def _proven(limit: Limit, evidence: Evidence) -> Verdict:
    """Both sides are one program: no time could tell them apart but by chance."""
    details = (evidence.base.audit,) if evidence.base.audit else ()
    return verdict(limit, evidence, Status.PASS, evidence.base.proof, details=details, proven=evidence.base.proven)


def can_be_judged(limit: Limit, baseline: Baseline) -> bool:
    """Whether blocks can lead to a verdict: a tolerance needs stored samples of this machine class."""
    return not limit.is_tolerance or (not baseline.another and baseline.here.id in _stored(limit, baseline))


def was_counted(limit: Limit, blocks: Sequence[Block]) -> bool:
    return not why_not_counted(limit, blocks, arms_needed(limit))


def arms_needed(limit: Limit) -> tuple[str, ...]:
    """Which arms a block must sample for this limit."""
    if limit.metric.against is Against.ORIGINAL:
        return (CANDIDATE, ORIGINAL)
    return (CANDIDATE,) if limit.is_bound else (CANDIDATE, YARDSTICK)


def precision_needed(limits: Iterable[Limit]) -> float:
    """The standard error of a block's log ratio of times that is as good as none beside the least tolerance.

    0 (no block is precise enough to end early) where a limit asks for more than a relative tolerance of time.
    """
    sampled = [limit for limit in limits if limit.is_sampled]
    relative = all(limit.kind is LimitKind.RELATIVE and limit.metric.quantity == ELAPSED for limit in sampled)
    return precision(min(limit.value for limit in sampled)) if sampled and relative else 0.0


def precision(tolerance: float) -> float:
    """The same for one relative tolerance."""
    return math.log1p(tolerance) / _SHARPER


def _stored(limit: Limit, baseline: Baseline) -> dict[str, StoredSamples]:
    """By machine id."""
    return baseline.entry.samples(limit.metric.quantity) if baseline.entry else {}


def _judge_stored(limit: Limit, evidence: Evidence, baseline: Baseline, budget: Budget) -> Verdict:
    stored = _stored(limit, baseline)[baseline.here.id]
    if stored.yardstick != evidence.yardstick:
        sentence = f"the baseline used the yardstick {stored.yardstick}, this run {evidence.yardstick}"
        return verdict(limit, evidence, Status.INCOMPARABLE, sentence, remedy=f"record it again: {baseline.update}")
    return beside.judge(limit, evidence, baseline, budget, beside.beside_stored(evidence, stored))


def _judge_relation(limit: Limit, evidence: Evidence, errors: Errors) -> Verdict:
    """Candidate and original are sampled alternately in every block: a speedup is original / candidate."""
    found = effects(limit, evidence.blocks, ORIGINAL)
    sign = limit.metric.better.sign
    decision = interim_decision(found, shrunk_spread(RELATION_PRIOR, found), sign * math.log(limit.value), errors)
    where = "beside the original in the same processes"
    return _bound_verdict(limit, evidence, decision, math.exp(sign * decision.center), where)


def _judge_raw(limit: Limit, evidence: Evidence, errors: Errors) -> Verdict:
    """An absolute bound holds on this machine only, and the spread is that of raw amounts."""
    probe, quantity, examples = probe_of(limit), limit.metric.quantity, evidence.case.batch_size
    sign = orientation(limit)
    medians = (statistics.median(block.amounts(CANDIDATE, quantity)) for block in evidence.blocks)
    found = [Effect(sign * math.log(median), 0.0) for median in medians]
    bound = sign * math.log(probe.value(limit.value, examples))  # a rate is its own inverse
    decision = interim_decision(found, shrunk_spread(RAW_PRIOR, found), bound, errors)
    measured = probe.value(math.exp(sign * decision.center), examples)
    where = "on this machine" if quantity else "in raw time on this machine"
    return _bound_verdict(limit, evidence, decision, measured, where)


def _bound_verdict(limit: Limit, evidence: Evidence, decision: Decision, measured: float, where: str) -> Verdict:
    """``measured`` in the metric's unit; the decision is about log effects, positive = worse."""
    unit, outcome = limit.metric.unit, decision.outcome
    sign = limit.metric.better.sign
    center = decision.center
    low, high = sorted(measured * math.exp(sign * (end - center)) for end in (decision.low, decision.high))
    seen = format_value(measured * math.exp(sign * (decision.detectable - center)), unit)
    word = {Outcome.WORSE: "misses", Outcome.UNCLEAR: "cannot be told from"}.get(outcome, "meets")
    sentence = (
        f"{limit.metric.name} is {format_value(measured, unit)} ({format_value(low, unit)} to "
        f"{format_value(high, unit)}) {where}, which {word} {limit.kind.value} {format_value(limit.value, unit)}"
    )
    if outcome is Outcome.UNCLEAR:
        sentence += f"; {seen} would have been seen to miss it{given_up(decision)}"
    status = Status.PASS if outcome is Outcome.BETTER else STATUS_OF[outcome]
    remedy = f"{longer(decision)}, or ask for less" if status is Status.INCONCLUSIVE else ""
    return verdict(
        limit, evidence, status, sentence,
        measured=measured, expected=limit.value, low=low, high=high, remedy=remedy, futile=decision.futile,
    )  # fmt: skip


def _not_measured(limit: Limit, evidence: Evidence, why: str) -> Verdict:
    sentence = f"{limit.metric.name} was not measured: {why}"
    return verdict(limit, evidence, Status.NOT_MEASURED, sentence, remedy=evidence.not_timed_remedy)


def _foreign(limit: Limit, evidence: Evidence, baseline: Baseline) -> Verdict:
    """Nothing is stored, or only on other machine classes: never green."""
    stored = _stored(limit, baseline)
    if not stored:
        return no_baseline(limit, evidence, baseline)
    known = [baseline.machines[name] for name in stored if name in baseline.machines]
    nearest = min((baseline.here.differences(machine) for machine in known), key=len, default=())
    sentence = f"{limit.metric.name} is stored for other machine classes only ({'; '.join(nearest) or 'unknown'})"
    return verdict(
        limit, evidence, Status.INCOMPARABLE, sentence, details=nearest,
        remedy=f"record this machine class: {baseline.update}",
    )  # fmt: skip
