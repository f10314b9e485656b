"""Exact metrics: no noise, so no statistics. What is worse beyond the tolerance is a regression."""

from __future__ import annotations

from perfsuite.gate.explain import added_and_removed, what_changed
from perfsuite.gate.reference import Reference
from perfsuite.gate.verdicts import accept, bound_verdict, no_baseline, tolerated, verdict
from perfsuite.spec import Against, Evidence, Limit, Metric, Status, Verdict
from perfsuite.units import format_change, format_difference, format_value


def judge(limit: Limit, evidence: Evidence, reference: Reference) -> Verdict:
    """A bound is judged as it is; a tolerance against the portable part of the baseline."""
    measured = _measured(limit.metric, evidence)
    if measured is None:
        return _not_measured(limit, evidence)
    if limit.is_bound:
        return bound_verdict(limit, evidence, measured)
    stored = reference.entry.exact if reference.entry else None
    if stored is None or limit.metric.stored_name not in stored.metrics:
        return no_baseline(limit, evidence, reference, measured=measured)
    context = evidence.context
    if limit.metric.dispatched and (stored.torch, stored.kernels) != (context.torch, context.kernels):
        sentence = (
            f"{limit.metric.name} was recorded with torch {stored.torch} and {stored.kernels}, "
            f"here are torch {context.torch} and {context.kernels}"
        )
        there = f"with torch {stored.torch}" if stored.torch != context.torch else f"where there is {stored.kernels}"
        remedy = f"run {there}, or accept these numbers: {reference.update}"
        return verdict(limit, evidence, Status.INCOMPARABLE, sentence, measured=measured, remedy=remedy)
    return _against_stored(limit, evidence, reference, measured, stored.metrics[limit.metric.stored_name])


def _not_measured(limit: Limit, evidence: Evidence) -> Verdict:
    sentence, remedy = f"{limit.metric.name} was not measured for this case", "gate a model that has it"
    if why := _why_missing(limit.metric, evidence):
        sentence = f"{limit.metric.name} was not measured: {why}"
        remedy = "limit what can be measured, such as latency or accuracy"
    if evidence.candidate.varies and limit.metric.dispatched:
        sentence = f"{limit.metric.name} has no exact value, since {evidence.candidate.varies}"
        remedy = (
            "make the callable deterministic, such as by seeding in it what it draws; times are judged all the same"
        )
    return verdict(limit, evidence, Status.NOT_MEASURED, sentence, remedy=remedy)


def _why_missing(metric: Metric, evidence: Evidence) -> str:
    """A compression is missing where one of the two sizes is."""
    name = "size" if metric.name == "compression" else metric.name
    return evidence.candidate.missing.get(name) or evidence.original.missing.get(name, "")


def _measured(metric: Metric, evidence: Evidence) -> float | None:
    if metric.against is Against.BASELINE:
        return evidence.candidate.exact.get(metric.stored_name)
    if metric.name == "compression":
        before, after = (facts.exact.get("size_bytes") for facts in (evidence.original, evidence.candidate))
        return before / after if before and after else None
    return evidence.relations.get(metric.name)


def _against_stored(
    limit: Limit, evidence: Evidence, reference: Reference, measured: float, expected: float
) -> Verdict:
    stored = reference.entry.exact if reference.entry else None
    if limit.metric.name == "operators" and stored is not None:
        added, removed = added_and_removed(stored.operators, evidence.candidate.operators)
        worse, better = float(sum(added.values())), float(sum(removed.values()))
        what = f"operators has {worse:g} calls added and {better:g} gone, of {expected:g} {_there(reference)}"
    else:
        worse = limit.metric.better.sign * (measured - expected)
        better = -worse
        what = _what(limit.metric, measured, expected, reference)
    allowed = tolerated(limit, expected)
    status = Status.REGRESSED if worse > allowed else Status.IMPROVED if better > allowed else Status.PASS
    plain = status is Status.PASS
    return verdict(
        limit, evidence, status, f"{what}: {_judged(limit, status, allowed, reference)}",
        measured=measured, expected=expected, change=measured / expected if expected else None,
        details=() if plain else what_changed(stored, evidence.candidate, evidence.context),
        remedy="" if plain else accept(reference),
    )  # fmt: skip


def _there(reference: Reference) -> str:
    return f"in {reference.then}" if reference.base else reference.then


def _what(metric: Metric, measured: float, expected: float, reference: Reference) -> str:
    """The numbers, in full where they would look equal."""
    now, then = format_value(measured, metric.unit), format_value(expected, metric.unit)
    if measured == expected:
        return f"{metric.name} is {now}, as {reference.then}"
    if now == then:
        now, then = f"{measured:,.10g}", f"{expected:,.10g}"
    change = format_change(measured / expected) if expected else format_difference(measured - expected, metric.unit)
    return f"{metric.name} is {now}, {reference.then} was {then} ({change})"


def _judged(limit: Limit, status: Status, allowed: float, reference: Reference) -> str:
    match status:
        case Status.REGRESSED:
            return f"worse by more than the tolerated {format_value(allowed, limit.metric.unit)}"
        case Status.IMPROVED:
            return f"better than {reference.then}"
        case _:
            return "within the tolerance"
