"""A tolerance of what was sampled: beside stored ratios to the yardstick, or beside a base revision in the same blocks.

Beside a base, both are sampled alternately, so that noise that is common to both cancels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from perfsuite.baseline.schema import StoredSamples
from perfsuite.gate.automatic import resolved
from perfsuite.gate.baseline import Baseline, BaseRevision, Budget
from perfsuite.gate.effects import RAW_PRIOR, STATUS_OF, effects, given_up, longer, orientation, probe_of
from perfsuite.gate.expected import expected
from perfsuite.gate.explain import what_changed, where_time_went
from perfsuite.gate.verdicts import accept, verdict
from perfsuite.spec import (
    BASE,
    SECOND,
    YARDSTICK,
    Block,
    Direction,
    Evidence,
    Limit,
    LimitKind,
    Status,
    Verdict,
)
from perfsuite.stats.decision import Decision, Outcome, Spread, estimate, pool, spread_of
from perfsuite.stats.sequential import KNOWN, interim_decision
from perfsuite.stats.variance_shrinkage import shrunk_spread
from perfsuite.units import format_change

# Spread of log ratios between processes that is assumed before anything is known of a case or a suite. Chosen
# near what calls of some milliseconds show (docs/judging.md); few degrees of freedom let data overrule.
YARDSTICK_PRIOR = Spread(0.05, 4)
TWINS_PRIOR = Spread(0.005, 4)
PAIRS_PRIOR = Spread(0.02, 4)


@dataclass(frozen=True)
class Beside:
    """What the candidate's samples stand beside: another arm of its blocks, which may have stored ratios itself.

    ``amount``: what a call was expected to take, in the base unit; ``where`` and ``then`` are parts of the sentence.
    """

    arm: str
    blocks: Sequence[Block]
    prior: Spread
    amount: float
    where: str
    then: str
    stored: Sequence[float] = ()  # log ratios of candidate to arm; none: the arm itself is what was expected
    accepts: tuple[Status, ...] = (Status.REGRESSED,)  # of what it may be said how to accept it


def beside_stored(evidence: Evidence, stored: StoredSamples) -> Beside:
    number, kind = len(evidence.blocks), "fresh" if evidence.blocks[0].fresh else "in-place"
    relative = "in raw time" if evidence.yardstick == SECOND else "relative to the yardstick"
    return Beside(
        YARDSTICK, evidence.blocks, RAW_PRIOR if stored.yardstick == SECOND else YARDSTICK_PRIOR, stored.typical,
        f"{relative} over {number} {kind} block(s)", "accepted", stored.log_ratios,
        accepts=(Status.REGRESSED, Status.IMPROVED),
    )  # fmt: skip


def beside_base(limit: Limit, evidence: Evidence, revision: BaseRevision, budget: Budget) -> Beside:
    quantity, twins = limit.metric.quantity, evidence.base.twins
    amounts = sorted(amount for block in evidence.beside_base for amount in block.amounts(BASE, quantity))
    number, kind = len(evidence.beside_base), "as twins in" if twins else "in pairs of"
    return Beside(
        BASE, evidence.beside_base,
        budget.spreads.get((twins, quantity)) or (TWINS_PRIOR if twins else PAIRS_PRIOR),
        amounts[len(amounts) // 2],
        f"beside {revision.name}, {kind} {number} fresh process{'es' * (number > 1)}", revision.name,
    )  # fmt: skip


def judge(limit: Limit, evidence: Evidence, baseline: Baseline, budget: Budget, beside: Beside) -> Verdict:
    """A regression must also stand out of what the base shows beside itself, where that was measured."""
    found = effects(limit, beside.blocks, beside.arm)
    known = spread_of(beside.stored)  # on no degrees of freedom where nothing is stored
    spread, errors = shrunk_spread(beside.prior, found, known), budget.errors_over(beside.blocks)
    own = 0.0 if beside.stored else found[0].se  # the spread of stored values holds theirs
    limit = resolved(limit, pool(beside.prior, known), errors, len(beside.stored) or math.inf, own)
    sign = orientation(limit)
    then = estimate([sign * ratio for ratio in beside.stored], spread) if beside.stored else KNOWN
    tolerance = _log_tolerance(limit, probe_of(limit).value(beside.amount, evidence.case.batch_size))
    decision = interim_decision(found, spread, tolerance, errors, then)
    if decision.outcome is Outcome.WORSE and evidence.control:
        controls = [effect.value for effect in effects(limit, evidence.control, BASE)]
        drift = abs(sum(controls) / len(controls))
        if decision.center - drift <= tolerance:
            return _contaminated(limit, evidence, decision, drift)
    return _verdict(limit, evidence, baseline, beside, decision)


def _log_tolerance(limit: Limit, expected_value: float) -> float:
    """The tolerated worsening of the logarithm of what a call takes."""
    part = limit.value / expected_value if limit.kind is LimitKind.ABSOLUTE else limit.value
    if limit.metric.better is Direction.LOWER:
        return math.log1p(part)
    return -math.log1p(-part) if part < 1 else math.inf


def _contaminated(limit: Limit, evidence: Evidence, decision: Decision, drift: float) -> Verdict:
    sentence = (
        f"{limit.metric.name} looked changed by {format_change(math.exp(decision.center))}, but the base "
        f"beside itself differed by {format_change(math.exp(drift))} in this session: neither can be trusted"
    )
    return verdict(limit, evidence, Status.INCONCLUSIVE, sentence, remedy="run it again on a quieter machine")


def _verdict(limit: Limit, evidence: Evidence, baseline: Baseline, beside: Beside, decision: Decision) -> Verdict:
    status, sign = STATUS_OF[decision.outcome], limit.metric.better.sign
    ratio, *ends = (math.exp(sign * x) for x in (decision.center, decision.low, decision.high))
    low, high = sorted(ends)
    was = probe_of(limit).value(beside.amount, evidence.case.batch_size)
    judged = {
        Status.REGRESSED: f"worse than the tolerated {limit.text}",
        Status.IMPROVED: f"better than {beside.then}",
        Status.INCONCLUSIVE: _too_uncertain(limit, decision),
    }.get(status, f"within {limit.text}")
    sentence = (
        f"{limit.metric.name} changed by {format_change(ratio)} ({format_change(low)} to {format_change(high)}) "
        f"{beside.where}: {judged}"
    )
    then = expected(evidence, baseline)
    return verdict(
        limit, evidence, status, sentence,
        measured=was * ratio, expected=was, change=ratio, low=low, high=high,
        details=() if status is Status.PASS else (
            *what_changed(then, evidence.candidate, evidence.context), *where_time_went(evidence.profiles)
        ),
        remedy=_remedy(status, baseline, beside, decision), futile=decision.futile,
    )  # fmt: skip


def _too_uncertain(limit: Limit, decision: Decision) -> str:
    seen = format_change(math.exp(limit.metric.better.sign * decision.detectable))
    return f"too uncertain to judge {limit.text}; an effect of {seen} would have been seen{given_up(decision)}"


def _remedy(status: Status, baseline: Baseline, beside: Beside, decision: Decision) -> str:
    if status is Status.INCONCLUSIVE:
        return f"{longer(decision)}, tolerate more, or run on a quieter machine"
    return accept(baseline) if status in beside.accepts else ""
