"""What has no noise, measured of subjects: numbers, counts, values per example, relations. What cannot be is said."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from perfsuite.metric import DISPATCH, GRAPH, Counted, Exact, Metric, PerExample, Relation, Scores
from perfsuite.spec import Facts

if TYPE_CHECKING:
    from perfsuite.measure.subject import Subject


def facts_of(subject: Subject, metrics: Iterable[Metric]) -> Facts:
    """What these metrics measure of one subject; samples and relations are no facts of one."""
    known = [metric for metric in metrics if isinstance(metric.probe, Exact | Counted | PerExample)]
    mine = [metric for metric in known if subject.may_have(metric.probe.needs)]
    missing = {metric.name: why for metric in mine if (why := subject.why_missing(metric.probe.needs))}
    seen = [metric for metric in mine if metric.name not in missing]
    counts = {m.name: dict(m.probe.count(subject)) for m in seen if isinstance(m.probe, Counted)}
    numbers = {m: m.probe.measure(subject) for m in seen if isinstance(m.probe, Exact)}
    numbers |= {metric: sum(counts[metric.name].values()) for metric in seen if metric.name in counts}
    scores = _scores(subject, seen)
    values = {**{m.name: [number] for m, number in numbers.items()}, **{n: s.values for n, s in scores.items()}}
    missing |= {name: why for name, given in values.items() if (why := _why_no_value(given))}
    return Facts(
        {metric.stored_name: number for metric, number in numbers.items() if metric.name not in missing},
        counts,
        {name: found for name, found in scores.items() if name not in missing},
        subject.varies if any(metric.probe.needs & (DISPATCH | GRAPH) for metric in mine) else "",
        missing,
    )


def relations_of(
    candidate: Subject, original: Subject, metrics: Iterable[Metric]
) -> tuple[Mapping[str, float], Mapping[str, str]]:
    """By metric, how the candidate relates to its original, or why that has no value."""
    found: dict[str, float] = {}
    missing: dict[str, str] = {}
    for metric in metrics:
        if not isinstance(metric.probe, Relation):
            continue
        needs = metric.probe.needs
        why = candidate.why_missing(needs) or original.why_missing(needs)
        number = None if why else metric.probe.measure(candidate, original)
        if number is not None and not (why := _why_no_value([number])):
            found[metric.name] = float(number)
        elif why:
            missing[metric.name] = why
    return found, missing


def explanations_of(candidate: Subject, original: Subject, metrics: Iterable[Metric]) -> dict[str, str]:
    """By relation, where its number comes from, in words; of those that can say it."""
    probes = {metric.name: metric.probe for metric in metrics if isinstance(metric.probe, Relation)}
    found = {name: probe.explain(candidate, original) for name, probe in probes.items() if probe.explain}
    return {name: words for name, words in found.items() if words}


def _scores(subject: Subject, metrics: Sequence[Metric]) -> dict[str, Scores]:
    """A probe that several metrics share is asked once."""
    asked = {metric.probe for metric in metrics if isinstance(metric.probe, PerExample)}
    subject.restore()
    answers = {probe: probe.score(subject) for probe in asked}
    return {m.name: answers[m.probe] for m in metrics if isinstance(m.probe, PerExample)}


def _why_no_value(values: Sequence[float]) -> str:
    strange = next((value for value in values if not math.isfinite(value)), None)
    if strange is not None:
        return f"its function gave {strange}"
    return "" if values else "its function gave no examples"
