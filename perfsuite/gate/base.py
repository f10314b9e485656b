"""Times beside a base revision: both sampled alternately, so that the machine's mood cancels."""

from __future__ import annotations

import math
from collections.abc import Sequence

from perfsuite.gate.automatic import resolved
from perfsuite.gate.explain import what_changed, where_time_went
from perfsuite.gate.reference import BaseRevision, Reference
from perfsuite.gate.timed import STATUS_OF, log_tolerance, sharpen, too_uncertain
from perfsuite.gate.verdicts import accept, verdict
from perfsuite.spec import BASE, CANDIDATE, Against, Block, Evidence, Limit, Status, Verdict
from perfsuite.stats.blocks import Effect, block_effect
from perfsuite.stats.decision import Decision, Outcome, Spread
from perfsuite.stats.moderation import moderated
from perfsuite.stats.sequential import look
from perfsuite.units import Unit, format_change

# Spread of block statistics that is assumed before anything is known of a suite (docs/judging.md).
TWINS_PRIOR = Spread(0.005, 4)
PAIRS_PRIOR = Spread(0.02, 4)


def concerns(limit: Limit) -> bool:
    """Whether a limit is judged beside the base: tolerances are, bounds and relations stand for themselves."""
    return limit.metric.against is Against.BASELINE and not limit.is_bound


def missing(limit: Limit, evidence: Evidence, revision: BaseRevision) -> Verdict:
    return verdict(
        limit, evidence, Status.NOT_MEASURED, f"{limit.metric.name} has nothing to compare with: {revision.missing}",
        remedy=revision.remedy or "without --perf-base stored baselines judge it",
    )  # fmt: skip


def judge(limit: Limit, evidence: Evidence, reference: Reference, revision: BaseRevision) -> Verdict:
    """A regression must also stand out of what the base shows beside itself, where that was measured."""
    if not evidence.beside_base:
        sentence = f"{limit.metric.name} was not measured: {evidence.not_timed or 'there is no block of samples'}"
        return verdict(limit, evidence, Status.NOT_MEASURED, sentence, remedy=evidence.not_timed_remedy)
    effects, prior = _effects(evidence.beside_base), _prior(reference, revision)
    errors = reference.errors_over(evidence.beside_base)
    limit = resolved(limit, prior, errors)
    tolerance = log_tolerance(limit, _base_seconds(evidence))
    decision = look(effects, moderated(prior, effects), tolerance, errors)
    if decision.outcome is Outcome.WORSE and evidence.control:
        drift = _control_center(evidence.control)
        if decision.center - abs(drift) <= tolerance:
            return _contaminated(limit, evidence, decision, drift)
    return _verdict(limit, evidence, reference, revision, decision)


def _prior(reference: Reference, revision: BaseRevision) -> Spread:
    """What the suite has shown so far, else what is assumed."""
    return reference.spread or (TWINS_PRIOR if revision.twins else PAIRS_PRIOR)


def _effects(blocks: Sequence[Block]) -> list[Effect]:
    return [block_effect(block, CANDIDATE, BASE) for block in blocks]


def _control_center(blocks: Sequence[Block]) -> float:
    values = [effect.value for effect in _effects(blocks)]
    return sum(values) / len(values)


def _base_seconds(evidence: Evidence) -> float:
    samples = sorted(ns for block in evidence.beside_base for ns in block.of(BASE))
    return samples[len(samples) // 2] / 1e9


def _contaminated(limit: Limit, evidence: Evidence, decision: Decision, drift: float) -> Verdict:
    sentence = (
        f"{limit.metric.name} looked changed by {format_change(math.exp(decision.center))}, but the base "
        f"beside itself differed by {format_change(math.exp(abs(drift)))} in this session: neither can be trusted"
    )
    return verdict(limit, evidence, Status.INCONCLUSIVE, sentence, remedy="run it again on a quieter machine")


def _verdict(
    limit: Limit, evidence: Evidence, reference: Reference, revision: BaseRevision, decision: Decision
) -> Verdict:
    status, sign = STATUS_OF[decision.outcome], limit.metric.better.sign
    ratio, *ends = (math.exp(sign * x) for x in (decision.center, decision.low, decision.high))
    low, high = sorted(ends)
    base_s = _base_seconds(evidence)
    expected = base_s if limit.metric.unit is Unit.SECONDS else evidence.case.batch_size / base_s
    judged = {
        Status.REGRESSED: f"worse than the tolerated {limit.text}",
        Status.IMPROVED: f"better than {reference.then}",
        Status.INCONCLUSIVE: too_uncertain(limit, decision),
    }.get(status, f"within {limit.text}")
    number, kind = len(evidence.beside_base), "as twins in" if revision.twins else "in pairs of"
    sentence = (
        f"{limit.metric.name} changed by {format_change(ratio)} ({format_change(low)} to {format_change(high)}) beside "
        f"{revision.name}, {kind} {number} fresh process{'es' * (number > 1)}: {judged}"
    )
    stored = reference.entry.exact if reference.entry else None
    plain = status is Status.PASS
    return verdict(
        limit, evidence, status, sentence,
        measured=expected * ratio, expected=expected, change=ratio, low=low, high=high,
        details=() if plain else (
            *what_changed(stored, evidence.candidate, evidence.context), *where_time_went(evidence.profiles)
        ),
        remedy=_remedy(status, reference, decision), futile=decision.futile,
    )  # fmt: skip


def _remedy(status: Status, reference: Reference, decision: Decision) -> str:
    if status is Status.INCONCLUSIVE:
        return sharpen(decision)
    return accept(reference) if status is Status.REGRESSED else ""
