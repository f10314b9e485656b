"""Numbers without noise, so no statistics: what is worse beyond the tolerance is a regression.

Of counts, what was added is worse and what is gone is better, each by itself: one cannot hide the other.
"""

from __future__ import annotations

from dataclasses import replace

from perfsuite.gate.baseline import Baseline
from perfsuite.gate.expected import Expected, expected
from perfsuite.gate.explain import added_and_removed, what_changed
from perfsuite.gate.verdicts import accept, bound_verdict, no_baseline, not_measured, tolerated, verdict
from perfsuite.metric import DISPATCH, GRAPH, Counted, Direction
from perfsuite.spec import Context, Evidence, Limit, Metric, Status, Verdict
from perfsuite.units import format_change, format_difference, format_value


def judge(limit: Limit, evidence: Evidence, baseline: Baseline) -> Verdict:
    """A bound is judged as it is; a tolerance against the portable part of the baseline."""
    metric = limit.metric
    measured = evidence.candidate.exact.get(metric.stored_name)
    if measured is None:
        return not_measured(limit, evidence)
    if limit.is_bound:
        return bound_verdict(limit, evidence, measured)
    then = expected(evidence, baseline)
    if metric.stored_name not in then.facts.exact:
        return no_baseline(limit, evidence, baseline, measured=measured)
    if metric.probe.needs & (DISPATCH | GRAPH) and then.context is not None and then.context != evidence.context:
        return _incomparable(limit, evidence, baseline, then.context, measured)
    return _against(limit, evidence, baseline, then, measured)


def judge_relation(limit: Limit, evidence: Evidence) -> Verdict:
    """What relates the candidate to the original stands for itself: its limits are bounds."""
    measured = evidence.relations.get(limit.metric.name)
    if measured is None:
        return not_measured(limit, evidence)
    found, why = bound_verdict(limit, evidence, measured), evidence.explained.get(limit.metric.name, "")
    return replace(found, details=(why,)) if why and found.status is not Status.PASS else found


def _incomparable(limit: Limit, evidence: Evidence, baseline: Baseline, then: Context, measured: float) -> Verdict:
    now = evidence.context
    sentence = (
        f"{limit.metric.name} was recorded with torch {then.torch} and {then.kernels}, "
        f"here are torch {now.torch} and {now.kernels}"
    )
    there = f"with torch {then.torch}" if then.torch != now.torch else f"where there is {then.kernels}"
    remedy = f"run {there}, or accept these numbers: {baseline.update}"
    return verdict(limit, evidence, Status.INCOMPARABLE, sentence, measured=measured, remedy=remedy)


def _against(limit: Limit, evidence: Evidence, baseline: Baseline, then: Expected, measured: float) -> Verdict:
    metric, before = limit.metric, then.facts.exact[limit.metric.stored_name]
    if isinstance(metric.probe, Counted) and metric.name in then.facts.counts:  # older baselines know the sum alone
        counts = (facts.counts.get(metric.name, {}) for facts in (then.facts, evidence.candidate))
        added, gone = (sum(changed.values()) for changed in added_and_removed(*counts))
        worse, better = map(float, (added, gone) if metric.better is Direction.LOWER else (gone, added))
        there = f"in {baseline.then}" if baseline.base else baseline.then
        what = f"{metric.name} has {added} calls added and {gone} gone, of {before:g} {there}"
    else:
        worse = metric.better.sign * (measured - before)
        worse, better = (abs(worse), 0.0) if metric.better is Direction.SAME else (worse, -worse)
        what = _what(metric, measured, before, baseline)
    allowed = tolerated(limit, before)
    status = Status.REGRESSED if worse > allowed else Status.IMPROVED if better > allowed else Status.PASS
    plain = status is Status.PASS
    return verdict(
        limit, evidence, status, f"{what}: {_judged(limit, status, allowed, baseline)}",
        measured=measured, expected=before, change=measured / before if before else None,
        details=() if plain else what_changed(then, evidence.candidate, evidence.context),
        remedy="" if plain else accept(baseline),
    )  # fmt: skip


def _what(metric: Metric, measured: float, before: float, baseline: Baseline) -> str:
    """The numbers, in full where they would look equal."""
    now, then = format_value(measured, metric.unit), format_value(before, metric.unit)
    if measured == before:
        return f"{metric.name} is {now}, as {baseline.then}"
    if now == then:
        now, then = f"{measured:,.10g}", f"{before:,.10g}"
    change = format_change(measured / before) if before else format_difference(measured, metric.unit)
    return f"{metric.name} is {now}, {baseline.then} was {then} ({change})"


def _judged(limit: Limit, status: Status, allowed: float, baseline: Baseline) -> str:
    match status:
        case Status.REGRESSED:
            how = "other" if limit.metric.better is Direction.SAME else "worse"
            return f"{how} by more than the tolerated {format_value(allowed, limit.metric.unit)}"
        case Status.IMPROVED:
            return f"better than {baseline.then}"
        case _:
            return "within the tolerance"
