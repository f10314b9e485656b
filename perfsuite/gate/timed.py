"""Times: block statistics against a stored ratio to the yardstick, or against the original in the same blocks.

Everything is a logarithm of a ratio in which positive is worse, so that latency, throughput and
speedup are one question: is the effect beyond what is tolerated?
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable

from perfsuite.gate.automatic import resolved
from perfsuite.gate.explain import what_changed
from perfsuite.gate.reference import Reference
from perfsuite.gate.verdicts import accept, no_baseline, verdict
from perfsuite.spec import (
    CANDIDATE,
    ORIGINAL,
    SECOND,
    YARDSTICK,
    Against,
    Direction,
    Evidence,
    Kind,
    Limit,
    LimitKind,
    Status,
    Verdict,
)
from perfsuite.stats.blocks import Effect, block_effect
from perfsuite.stats.decision import Decision, Outcome, Spread, estimate, pool, spread_of
from perfsuite.stats.moderation import moderated
from perfsuite.stats.sequential import Errors, look
from perfsuite.units import Unit, format_change, format_value

# Spread of log ratios between processes that is assumed before anything is known of a case. Chosen
# near what calls of some milliseconds show (docs/judging.md); few degrees of freedom let data overrule.
YARDSTICK_PRIOR = Spread(0.05, 4)
RELATION_PRIOR = Spread(0.02, 4)
RAW_PRIOR = Spread(0.10, 4)

_SHARPER = 6  # times than the tolerance: the rest of a block's time would tell little that its spread does not hide

STATUS_OF = {
    Outcome.WORSE: Status.REGRESSED,
    Outcome.WITHIN: Status.PASS,
    Outcome.BETTER: Status.IMPROVED,
    Outcome.UNCLEAR: Status.INCONCLUSIVE,
}


def judge(limit: Limit, evidence: Evidence, reference: Reference) -> Verdict:
    if not evidence.not_timed and not can_be_judged(limit, reference):
        return _foreign(limit, evidence, reference)
    if not evidence.blocks:
        sentence = f"{limit.metric.name} was not measured: {evidence.not_timed or 'there is no block of samples'}"
        return verdict(limit, evidence, Status.NOT_MEASURED, sentence, remedy=evidence.not_timed_remedy)
    if limit.metric.against is Against.ORIGINAL:
        return _judge_relation(limit, evidence, reference.errors_over(evidence.blocks))
    if limit.is_bound:
        return _judge_raw(limit, evidence, reference.errors_over(evidence.blocks))
    return _judge_stored(limit, evidence, reference)


def can_be_judged(limit: Limit, reference: Reference) -> bool:
    """Whether blocks can lead to a verdict: a tolerance needs a stored time of this machine class."""
    entry = None if reference.another else reference.entry
    return limit.is_bound or (entry is not None and reference.here.id in entry.time)


def arms_needed(limit: Limit) -> tuple[str, ...]:
    """Which arms a block must sample for this limit."""
    if limit.metric.against is Against.ORIGINAL:
        return (CANDIDATE, ORIGINAL)
    return (CANDIDATE,) if limit.is_bound else (CANDIDATE, YARDSTICK)


def precision_needed(limits: Iterable[Limit]) -> float:
    """The standard error of a block's log ratio that is as good as none beside the least tolerance.

    0 (no block is precise enough to end early) where a limit asks for more than a relative tolerance.
    """
    sampled = [limit for limit in limits if limit.metric.kind is Kind.SAMPLED]
    relative = all(limit.kind is LimitKind.RELATIVE for limit in sampled)
    return precision(min(limit.value for limit in sampled)) if sampled and relative else 0.0


def precision(tolerance: float) -> float:
    """The same for one relative tolerance."""
    return math.log1p(tolerance) / _SHARPER


def _judge_relation(limit: Limit, evidence: Evidence, errors: Errors) -> Verdict:
    """Speedup is original / candidate, both sampled alternately in every block."""
    effects = [block_effect(block, CANDIDATE, ORIGINAL) for block in evidence.blocks]
    decision = look(effects, moderated(RELATION_PRIOR, effects), -math.log(limit.value), errors)
    return _bound_verdict(
        limit, evidence, decision, math.exp(-decision.center), "beside the original in the same processes"
    )


def _judge_raw(limit: Limit, evidence: Evidence, errors: Errors) -> Verdict:
    """An absolute bound on seconds: it holds on this machine only, and the spread is that of raw times."""
    times = [Effect(math.log(statistics.median(block.of(CANDIDATE)) / 1e9), 0.0) for block in evidence.blocks]
    bound_s = limit.value if limit.metric.unit is Unit.SECONDS else evidence.case.batch_size / limit.value
    decision = look(times, moderated(RAW_PRIOR, times), math.log(bound_s), errors)
    measured_s = math.exp(decision.center)
    measured = measured_s if limit.metric.unit is Unit.SECONDS else evidence.case.batch_size / measured_s
    return _bound_verdict(limit, evidence, decision, measured, "in raw time on this machine")


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
        sentence += f"; {seen} would have been seen to miss it{_given_up(decision)}"
    status = Status.PASS if outcome is Outcome.BETTER else STATUS_OF[outcome]
    remedy = f"{_longer(decision)}, or ask for less" if status is Status.INCONCLUSIVE else ""
    return verdict(
        limit, evidence, status, sentence,
        measured=measured, expected=limit.value, low=low, high=high, remedy=remedy, futile=decision.futile,
    )  # fmt: skip


def too_uncertain(limit: Limit, decision: Decision) -> str:
    """What is said of a tolerance that cannot be judged."""
    seen = format_change(math.exp(limit.metric.better.sign * decision.detectable))
    return f"too uncertain to judge {limit.text}; an effect of {seen} would have been seen{_given_up(decision)}"


def sharpen(decision: Decision) -> str:
    """The remedy for such a tolerance."""
    return f"{_longer(decision)}, tolerate more, or run on a quieter machine"


def _given_up(decision: Decision) -> str:
    """Why there are no more blocks, if that was chosen."""
    return ", and more blocks would hardly tell" if decision.futile else ""


def _longer(decision: Decision) -> str:
    """A budget buys more blocks, which may be known not to help."""
    return f"measure longer (--perf-block-time{'' if decision.futile else ', --perf-budget'})"


def _judge_stored(limit: Limit, evidence: Evidence, reference: Reference) -> Verdict:
    assert reference.entry is not None  # can_be_judged
    stored = reference.entry.time[reference.here.id]
    if stored.yardstick != evidence.yardstick:
        sentence = f"the baseline used the yardstick {stored.yardstick}, this run {evidence.yardstick}"
        return verdict(limit, evidence, Status.INCOMPARABLE, sentence, remedy=f"record it again: {reference.update}")
    effects = [block_effect(block, CANDIDATE, YARDSTICK) for block in evidence.blocks]
    known = spread_of(stored.log_ratios)
    prior = RAW_PRIOR if stored.yardstick == SECOND else YARDSTICK_PRIOR
    spread, errors = moderated(prior, effects, known), reference.errors_over(evidence.blocks)
    limit = resolved(limit, pool(prior, known), errors, len(stored.log_ratios))
    then = estimate(stored.log_ratios, spread)
    decision = look(effects, spread, log_tolerance(limit, stored.p50_ms / 1e3), errors, then)
    return _stored_verdict(limit, evidence, reference, decision, stored.p50_ms / 1e3)


def log_tolerance(limit: Limit, expected_s: float) -> float:
    if limit.kind is LimitKind.ABSOLUTE:
        return math.log1p(limit.value / expected_s)
    return -math.log1p(-limit.value) if limit.metric.better is Direction.HIGHER else math.log1p(limit.value)


def _stored_verdict(
    limit: Limit, evidence: Evidence, reference: Reference, decision: Decision, expected_s: float
) -> Verdict:
    status = STATUS_OF[decision.outcome]
    sign = limit.metric.better.sign
    ratio, *ends = (math.exp(sign * x) for x in (decision.center, decision.low, decision.high))
    low, high = sorted(ends)
    expected = expected_s if limit.metric.unit is Unit.SECONDS else evidence.case.batch_size / expected_s
    judged = {
        Status.REGRESSED: f"worse than the tolerated {limit.text}",
        Status.IMPROVED: "better than accepted",
        Status.INCONCLUSIVE: too_uncertain(limit, decision),
    }.get(status, f"within {limit.text}")
    relative = "in raw time" if evidence.yardstick == SECOND else "relative to the yardstick"
    processes = f"{len(evidence.blocks)} {'fresh' if evidence.blocks[0].fresh else 'in-place'} block(s)"
    sentence = (
        f"{limit.metric.name} changed by {format_change(ratio)} ({format_change(low)} to {format_change(high)}) "
        f"{relative} over {processes}: {judged}"
    )
    stored = reference.entry.exact if reference.entry else None
    details = () if status is Status.PASS else what_changed(stored, evidence.candidate, evidence.context)
    return verdict(
        limit, evidence, status, sentence, measured=expected * ratio, expected=expected,
        change=ratio, low=low, high=high, details=details,
        remedy=_remedy(status, reference, decision), futile=decision.futile,
    )  # fmt: skip


def _remedy(status: Status, reference: Reference, decision: Decision) -> str:
    if status is Status.INCONCLUSIVE:
        return sharpen(decision)
    return "" if status is Status.PASS else accept(reference)


def _foreign(limit: Limit, evidence: Evidence, reference: Reference) -> Verdict:
    """No time is stored, or only on other machine classes: never green."""
    times = reference.entry.time if reference.entry else {}
    if not times:
        return no_baseline(limit, evidence, reference)
    known = [reference.machines[name] for name in times if name in reference.machines]
    nearest = min((reference.here.differences(machine) for machine in known), key=len, default=())
    sentence = f"{limit.metric.name} is stored for other machine classes only ({'; '.join(nearest) or 'unknown'})"
    return verdict(
        limit, evidence, Status.INCOMPARABLE, sentence, details=nearest,
        remedy=f"record this machine class: {reference.update}",
    )  # fmt: skip
