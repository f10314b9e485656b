"""One limit judged on values: the core that decides. Every function here is pure.

A limit goes to the judge of the shape of its metric's data; each returns a verdict that explains itself.
"""

from __future__ import annotations

from collections.abc import Iterable

from perfsuite.gate import drift, exact, per_example, sampled
from perfsuite.gate.baseline import Baseline, Budget
from perfsuite.gate.verdicts import another_case, verdict
from perfsuite.metric import Counted, Exact, PerExample, Relation, Sampled
from perfsuite.spec import Evidence, Limit, Status, Verdict

_PLENTY = Budget()


def judge(limit: Limit, evidence: Evidence, baseline: Baseline, budget: Budget = _PLENTY) -> Verdict:
    """The verdict on one limit. A tolerance is judged beside the base revision, where there is one."""
    if limit.is_tolerance:
        stands = baseline.stands_alone and baseline.entry is not None and not limit.is_sampled
        if baseline.base and evidence.base.missing and not stands:
            return _nothing_beside(limit, evidence)
        beside = baseline.base is not None and (limit.is_sampled or not baseline.base.accepted)
        if baseline.another and not beside:
            return another_case(limit, evidence, baseline)
    match limit.metric.probe:
        case Sampled():
            judged = sampled.judge(limit, evidence, baseline, budget)
            return drift.unless_drifting(judged, limit, evidence, baseline)
        case PerExample():
            return per_example.judge(limit, evidence, baseline)
        case Relation():
            return exact.judge_relation(limit, evidence)
        case Exact() | Counted():
            return exact.judge(limit, evidence, baseline)


def judge_all(limits: Iterable[Limit], evidence: Evidence, baseline: Baseline, budget: Budget) -> tuple[Verdict, ...]:
    """The verdicts on all limits of a gate, in their order."""
    return tuple(judge(limit, evidence, baseline, budget) for limit in limits)


def _nothing_beside(limit: Limit, evidence: Evidence) -> Verdict:
    return verdict(
        limit, evidence, Status.NOT_MEASURED,
        f"{limit.metric.name} has nothing to compare with: {evidence.base.missing}",
        remedy=evidence.base.remedy or "without --perf-base stored baselines judge it",
    )  # fmt: skip
