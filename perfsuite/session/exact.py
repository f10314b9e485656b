"""What the limits of a case need that has no noise, measured of its arms; nothing that they do not need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from perfsuite.measure.facts import explanations_of, facts_of, relations_of
from perfsuite.metric import Against, Counted, Exact, Metric, PerExample, Relation
from perfsuite.progress import tell
from perfsuite.registry import Registry
from perfsuite.session.measurable import Measurable
from perfsuite.spec import CANDIDATE, ORIGINAL, Evidence, Facts, Limit

Originals = dict[tuple[object, ...], Facts]
"""Facts of originals: the same spec and seed give the same one for all techniques of a model."""


def is_wanted(limits: Sequence[Limit]) -> bool:
    """Whether anything without noise is."""
    return not all(limit.is_sampled for limit in limits)


def exact_evidence(
    subject: Measurable, limits: Sequence[Limit], evidence: Evidence, metrics: Registry[Metric], originals: Originals
) -> Evidence:
    """The evidence with its facts, relations and what is shown beside them. Raises NonFiniteError."""
    subject.check()
    facts = dict(evidence.facts)
    mine, of_original = wanted(limits, metrics), _beside_original(limits)
    related = [limit.metric for limit in limits if isinstance(limit.metric.probe, Relation)]
    relations: Mapping[str, float] = {}
    explained: Mapping[str, str] = {}
    if is_wanted(limits):
        tell(f"{subject.case.key}: exact metrics", 0, 1)
        facts[CANDIDATE] = facts_of(subject.subject(CANDIDATE), mine) if mine else Facts()
    if of_original:
        key = (*subject.memo_key, *sorted(metric.name for metric in of_original))
        facts[ORIGINAL] = originals.get(key) or facts_of(subject.subject(ORIGINAL), of_original)
        originals[key] = facts[ORIGINAL]
    if related:
        candidate, original = subject.subject(CANDIDATE), subject.subject(ORIGINAL)
        relations, missing = relations_of(candidate, original, related)
        explained = explanations_of(candidate, original, [metric for metric in related if metric.name in relations])
        facts[CANDIDATE] = replace(facts[CANDIDATE], missing={**facts[CANDIDATE].missing, **missing})
    traced = any(isinstance(metric.probe, Exact | Counted) for metric in mine)
    shown = subject.information(traced)
    return replace(evidence, facts=facts, relations=relations, explained=explained, information=shown)


def wanted(limits: Sequence[Limit], metrics: Registry[Metric]) -> list[Metric]:
    """Of the candidate: all exact metrics where a limit asks for one, or for a relation, since they explain each other
    and are cheap beside that; and whatever shares the probe of a limit that is scored by example.
    """
    asked = [limit.metric for limit in limits]
    is_exact = any(isinstance(metric.probe, Exact | Counted | Relation) for metric in asked)
    chosen = {metric.name: metric for metric in asked if isinstance(metric.probe, PerExample) or _is_costly(metric)}
    probes = [metric.probe for metric in chosen.values() if isinstance(metric.probe, PerExample)]
    for metric in map(metrics.get, metrics.names()):
        explains = is_exact and isinstance(metric.probe, Exact | Counted) and not _is_costly(metric)
        if explains or (metric.probe in probes and metric.against is Against.BASELINE):
            chosen[metric.name] = metric
    return list(chosen.values())


def _beside_original(limits: Sequence[Limit]) -> list[Metric]:
    """What is measured of the original by itself; a relation measures both."""
    asked = [limit.metric for limit in limits if limit.metric.against is Against.ORIGINAL]
    return [metric for metric in asked if isinstance(metric.probe, PerExample)]


def merged(found: Facts, fresh: Facts) -> Facts:
    """What a fresh process has measured of an arm, and what only was measured otherwise."""
    return Facts(
        {**found.exact, **fresh.exact},
        {**found.counts, **fresh.counts},
        {**found.per_example, **fresh.per_example},
        fresh.varies or found.varies,
        {**found.missing, **fresh.missing},
    )


def _is_costly(metric: Metric) -> bool:
    return isinstance(metric.probe, Exact) and metric.probe.is_costly
