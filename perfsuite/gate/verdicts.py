"""Making verdicts: the parts that every judge shares."""

from __future__ import annotations

from typing import Any

from perfsuite.baseline.identity import CALL
from perfsuite.baseline.schema import Entry
from perfsuite.case import TRAIN, Case
from perfsuite.errors import UnavailableError
from perfsuite.gate.baseline import Baseline
from perfsuite.metric import DISPATCH, GRAPH, TRAINING
from perfsuite.spec import Context, Evidence, Limit, LimitKind, Status, Verdict
from perfsuite.units import format_value


def verdict(limit: Limit, evidence: Evidence, status: Status, sentence: str, **numbers: Any) -> Verdict:
    return Verdict(
        case=evidence.case.key, metric=limit.metric.name, unit=limit.metric.unit.value, limit=limit.text,
        status=status, sentence=sentence, **numbers,
    )  # fmt: skip


def no_baseline(limit: Limit, evidence: Evidence, baseline: Baseline, **numbers: Any) -> Verdict:
    return verdict(
        limit, evidence, Status.NO_BASELINE, "no baseline is stored for it",
        remedy=f"record it: {baseline.update}", **numbers,
    )  # fmt: skip


def not_measured(limit: Limit, evidence: Evidence) -> Verdict:
    """What has no noise and no value, with the reason where one is known."""
    name = limit.metric.name
    sentence, remedy = f"{name} was not measured for this case", "gate a model that has it"
    if limit.metric.probe.needs >= TRAINING and evidence.case.workload != TRAIN:
        sentence, remedy = f"{name} is measured of training steps", "add workload='train' to the marker"
    if why := evidence.candidate.missing.get(name):
        sentence = f"{name} was not measured: {why}"
        remedy = "limit what can be measured, such as latency or accuracy"
    if evidence.candidate.varies and limit.metric.probe.needs & (DISPATCH | GRAPH):
        sentence = f"{name} has no exact value, since {evidence.candidate.varies}"
        remedy = (
            "make the callable deterministic, such as by seeding in it what it draws; times are judged all the same"
        )
    return verdict(limit, evidence, Status.NOT_MEASURED, sentence, remedy=remedy)


def not_available(limit: Limit, case: Case, error: UnavailableError) -> Verdict:
    """Nothing was measured, since what runs the case is not there."""
    nothing = Evidence(case, Context("", ""))
    return verdict(limit, nothing, Status.NOT_MEASURED, error.what, remedy=error.remedy)


def another_case(limit: Limit, evidence: Evidence, baseline: Baseline) -> Verdict:
    """The entry of that name was recorded of something else: what is measured has no baseline to be judged by."""
    stored, now = (baseline.entry or Entry()).of, evidence.case.of
    if CALL in baseline.another:
        sentence = f"the baseline was recorded of {stored[CALL]}, and this call measures {now[CALL]}"
        remedy = "if a call of perf was added or moved, name the calls: perf(..., name='...')"
    else:
        sentence = f"the baseline was recorded with another value of {', '.join(baseline.another)}"
        remedy = "if parameters were added or moved, give them ids: pytest.param(..., id='...')"
    return verdict(
        limit, evidence, Status.INCOMPARABLE, sentence, remedy=f"{remedy}; then record it: {baseline.update}"
    )


def accept(baseline: Baseline) -> str:
    """The remedy for a change that was meant."""
    if baseline.base:
        return "if this is intended, say so in the change and tolerate it there; accepted baselines are not touched"
    return f"if this is intended, accept it: {baseline.update}"


def bound_verdict(limit: Limit, evidence: Evidence, measured: float, note: str = "") -> Verdict:
    """An exact value against ">=" or "<="."""
    holds = measured >= limit.value if limit.kind is LimitKind.AT_LEAST else measured <= limit.value
    unit = limit.metric.unit
    word = "meets" if holds else "misses"
    bound = f"{limit.kind.value} {format_value(limit.value, unit)}"
    sentence = f"{limit.metric.name} is {format_value(measured, unit)}, which {word} {bound}"
    return verdict(
        limit, evidence, Status.PASS if holds else Status.REGRESSED, sentence + note,
        measured=measured, expected=limit.value,
    )  # fmt: skip


def tolerated(limit: Limit, expected: float) -> float:
    """The tolerated worsening as an amount in the metric's unit."""
    return limit.value * abs(expected) if limit.kind is LimitKind.RELATIVE else limit.value
