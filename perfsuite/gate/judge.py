"""One limit judged on values: the core that decides. Every function here is pure.

A limit goes to the judge of its metric's kind; each returns a verdict that explains itself.
"""

from __future__ import annotations

from collections.abc import Iterable

from perfsuite.gate import base, drift, exact, paired, timed
from perfsuite.gate.reference import BaseRevision, Reference
from perfsuite.gate.verdicts import another_case
from perfsuite.spec import Evidence, Kind, Limit, Verdict


def judge(limit: Limit, evidence: Evidence, reference: Reference) -> Verdict:
    """The verdict on one limit. A tolerance is judged beside the base revision, where there is one."""
    if reference.base and reference.base.missing and base.concerns(limit) and not _stands(limit, reference.base):
        return base.missing(limit, evidence, reference.base)
    if reference.base and limit.metric.kind is Kind.SAMPLED and base.concerns(limit):
        judged = base.judge(limit, evidence, reference, reference.base)
        return drift.unless_drifting(judged, limit, evidence, reference)
    if reference.another and base.concerns(limit):
        return another_case(limit, evidence, reference)
    match limit.metric.kind:
        case Kind.SAMPLED:
            return drift.unless_drifting(timed.judge(limit, evidence, reference), limit, evidence, reference)
        case Kind.PAIRED:
            return paired.judge(limit, evidence, reference)
        case Kind.EXACT:
            return exact.judge(limit, evidence, reference)


def _stands(limit: Limit, revision: BaseRevision) -> bool:
    return revision.stored_stands and limit.metric.kind is not Kind.SAMPLED


def judge_all(limits: Iterable[Limit], evidence: Evidence, reference: Reference) -> tuple[Verdict, ...]:
    """The verdicts on all limits of a gate, in their order."""
    return tuple(judge(limit, evidence, reference) for limit in limits)
