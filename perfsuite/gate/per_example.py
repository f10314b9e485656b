"""Values on the same examples: what changed is tested example by example, means are not subtracted.

Of booleans, flips are counted and tested exactly; of numbers, differences by a paired t test.
"""

from __future__ import annotations

from dataclasses import dataclass

from perfsuite.gate.baseline import Baseline
from perfsuite.gate.expected import expected
from perfsuite.gate.verdicts import accept, bound_verdict, no_baseline, not_measured, tolerated, verdict
from perfsuite.metric import TASK, Against
from perfsuite.spec import Direction, Evidence, Limit, Scores, Status, Verdict
from perfsuite.stats.paired import ALPHA, Differences, Flips, differences, flips, losses_needed
from perfsuite.units import format_difference

_SHOWN = 10
_NO_TASK = "the model has no task"


@dataclass(frozen=True)
class _Words:
    worse: str
    better: str
    doubt: str


_OF_FLIPS = _Words("lost", "won", "so few flips can be chance")
_OF_NUMBERS = _Words("worse", "better", "such differences can be chance")


def judge(limit: Limit, evidence: Evidence, baseline: Baseline) -> Verdict:
    scores = evidence.candidate.per_example.get(limit.metric.name)
    if scores is None:
        return _missing(limit, evidence)
    if limit.metric.against is Against.ORIGINAL:
        return _beside_original(limit, evidence, scores)
    if limit.is_bound:
        return bound_verdict(limit, evidence, scores.mean, f" ({scores.task}, {len(scores.values)} examples)")
    return _against(limit, evidence, baseline, scores)


def _missing(limit: Limit, evidence: Evidence) -> Verdict:
    name = limit.metric.name
    if not limit.metric.probe.needs >= TASK or evidence.candidate.missing.get(name, _NO_TASK) != _NO_TASK:
        return not_measured(limit, evidence)
    sentence = f"{name} was not measured: {_NO_TASK}"
    return verdict(limit, evidence, Status.NOT_MEASURED, sentence, remedy="give the model's spec a task")


def _beside_original(limit: Limit, evidence: Evidence, scores: Scores) -> Verdict:
    """The fraction of the original's mean that the candidate keeps, in the same run."""
    original = evidence.original.per_example.get(limit.metric.name)
    if original is None or original.examples != scores.examples or not original.mean:
        return verdict(limit, evidence, Status.NOT_MEASURED, "the original has no score on the same examples")
    found = _paired(limit, original, scores)
    note = f" ({_counted(found, ', ')}, of {found.examples})"
    return bound_verdict(limit, evidence, scores.mean / original.mean, note)


def _against(limit: Limit, evidence: Evidence, baseline: Baseline, scores: Scores) -> Verdict:
    name = limit.metric.name
    before = expected(evidence, baseline).facts.per_example.get(name)
    if before is None:
        return no_baseline(limit, evidence, baseline, measured=scores.mean)
    if (before.task, before.examples, len(before.values)) != (scores.task, scores.examples, len(scores.values)):
        here = f"{scores.task} {scores.examples}"
        sentence = f"{name} was recorded on other examples ({before.task} {before.examples}, here {here})"
        remedy = f"install the same versions of the data's packages, or accept: {baseline.update}"
        return verdict(limit, evidence, Status.INCOMPARABLE, sentence, measured=scores.mean, remedy=remedy)
    found = _paired(limit, before, scores)
    status = _status(found, tolerated(limit, before.mean))
    return verdict(
        limit, evidence, status, _sentence(limit, found, status, baseline),
        measured=scores.mean, expected=before.mean, change=scores.mean / before.mean if before.mean else None,
        details=_list_of(found), remedy=_remedy(status, baseline),
    )  # fmt: skip


def _paired(limit: Limit, before: Scores, after: Scores) -> Flips | Differences:
    if not (before.are_flags and after.are_flags):
        return differences(before.values, after.values, limit.metric.better.sign)
    is_better = limit.metric.better is Direction.HIGHER  # which of both values
    return flips(*([value is is_better for value in scores.values] for scores in (before, after)))


def _words(found: Flips | Differences) -> _Words:
    return _OF_FLIPS if isinstance(found, Flips) else _OF_NUMBERS


def _counted(found: Flips | Differences, between: str) -> str:
    words = _words(found)
    return f"{len(found.lost)} examples {words.worse}{between}{len(found.won)} {words.better}"


def _status(found: Flips | Differences, allowed: float) -> Status:
    """Beyond the tolerance is a regression if what got worse is more than chance explains."""
    if found.worsening > allowed:
        return Status.REGRESSED if found.p_worse < ALPHA else Status.INCONCLUSIVE
    if -found.worsening > allowed and found.p_better < ALPHA:
        return Status.IMPROVED
    return Status.PASS


def _sentence(limit: Limit, found: Flips | Differences, status: Status, baseline: Baseline) -> str:
    change = format_difference(limit.metric.better.sign * found.worsening or 0.0, limit.metric.unit)  # 0.0 for -0.0
    chance = f"{_words(found).doubt} (p = {found.p_worse:.2f}){_seen(limit, found)}"
    judged = {
        Status.REGRESSED: f"beyond the tolerated {limit.text}",
        Status.INCONCLUSIVE: f"beyond the tolerated {limit.text}, but {chance}",
        Status.IMPROVED: f"better than {baseline.then}",
    }.get(status, "within the tolerance")
    return f"{limit.metric.name} changed by {change}: {_counted(found, ' and ')} of {found.examples}, {judged}"


def _seen(limit: Limit, found: Flips | Differences) -> str:
    """What would have been more than chance, if that is known."""
    if isinstance(found, Flips):
        return f"; {losses_needed(len(found.won))} losses would have been seen"
    if found.detectable is None:
        return ""
    return f"; {format_difference(limit.metric.better.sign * found.detectable, limit.metric.unit)} would have been seen"


def _remedy(status: Status, baseline: Baseline) -> str:
    if status is Status.INCONCLUSIVE:
        return "use a task with more examples, or tolerate more"
    return "" if status is Status.PASS else accept(baseline)


def _list_of(found: Flips | Differences) -> tuple[str, ...]:
    words = _words(found)
    return tuple(
        f"examples {word}: {', '.join(map(str, indices[:_SHOWN]))}{', ...' if len(indices) > _SHOWN else ''}"
        for word, indices in ((words.worse, found.lost), (words.better, found.won))
        if indices
    )
