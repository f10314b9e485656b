"""Accuracy, on the same examples: flips are counted and tested exactly, percentages are not subtracted."""

from __future__ import annotations

from perfsuite.gate.reference import Reference
from perfsuite.gate.verdicts import accept, bound_verdict, no_baseline, tolerated, verdict
from perfsuite.spec import Against, Evidence, Limit, Scores, Status, Verdict
from perfsuite.stats.paired import ALPHA, Flips, flips, losses_needed, p_more_lost, p_more_won
from perfsuite.units import format_difference

_SHOWN = 10


def judge(limit: Limit, evidence: Evidence, reference: Reference) -> Verdict:
    scores = evidence.candidate.scores
    if scores is None:
        sentence = f"{limit.metric.name} was not measured: the model has no task"
        return verdict(limit, evidence, Status.NOT_MEASURED, sentence, remedy="give the model's spec a task")
    if limit.metric.against is Against.ORIGINAL:
        return _kept(limit, evidence, scores)
    if limit.is_bound:
        return bound_verdict(limit, evidence, scores.accuracy, f" ({scores.task}, {len(scores.correct)} examples)")
    return _against_stored(limit, evidence, reference, scores)


def _kept(limit: Limit, evidence: Evidence, scores: Scores) -> Verdict:
    """The fraction of the original's accuracy that the candidate keeps, in the same run."""
    original = evidence.original.scores
    if original is None or original.examples != scores.examples or not original.accuracy:
        return verdict(limit, evidence, Status.NOT_MEASURED, "the original has no score on the same examples")
    found = flips(original.correct, scores.correct)
    return bound_verdict(
        limit, evidence, scores.accuracy / original.accuracy,
        f" ({len(found.lost)} examples lost, {len(found.won)} won, of {found.examples})",
    )  # fmt: skip


def _against_stored(limit: Limit, evidence: Evidence, reference: Reference, scores: Scores) -> Verdict:
    stored = reference.entry.scores if reference.entry else None
    if stored is None:
        return no_baseline(limit, evidence, reference, measured=scores.accuracy)
    if (stored.task, stored.examples) != (scores.task, scores.examples):
        here = f"{scores.task} {scores.examples}"
        sentence = f"accuracy was recorded on other examples ({stored.task} {stored.examples}, here {here})"
        remedy = f"install the same versions of the data's packages, or accept: {reference.update}"
        return verdict(limit, evidence, Status.INCOMPARABLE, sentence, measured=scores.accuracy, remedy=remedy)
    before = stored.bits()
    found = flips(before, scores.correct)
    expected = sum(before) / len(before)
    status = _status(found, tolerated(limit, expected))
    return verdict(
        limit, evidence, status, _sentence(limit, found, status, reference),
        measured=scores.accuracy, expected=expected, change=scores.accuracy / expected if expected else None,
        details=_list_of(found), remedy=_remedy(status, reference),
    )  # fmt: skip


def _status(found: Flips, allowed: float) -> Status:
    """Beyond the tolerance is a regression if losses outnumber wins by more than chance."""
    if -found.change > allowed:
        return Status.REGRESSED if p_more_lost(found) < ALPHA else Status.INCONCLUSIVE
    if found.change > allowed and p_more_won(found) < ALPHA:
        return Status.IMPROVED
    return Status.PASS


def _sentence(limit: Limit, found: Flips, status: Status, reference: Reference) -> str:
    change = format_difference(found.change, limit.metric.unit)
    needed = losses_needed(len(found.won))
    chance = f"but so few flips can be chance (p = {p_more_lost(found):.2f}); {needed} losses would have been seen"
    counted = f"{len(found.lost)} examples lost and {len(found.won)} won of {found.examples}"
    judged = {
        Status.REGRESSED: f"beyond the tolerated {limit.text}",
        Status.INCONCLUSIVE: f"beyond the tolerated {limit.text}, {chance}",
        Status.IMPROVED: f"better than {reference.then}",
    }.get(status, "within the tolerance")
    return f"accuracy changed by {change}: {counted}, {judged}"


def _remedy(status: Status, reference: Reference) -> str:
    if status is Status.INCONCLUSIVE:
        return "use a task with more examples, or tolerate more"
    return "" if status is Status.PASS else accept(reference)


def _list_of(found: Flips) -> tuple[str, ...]:
    return tuple(
        f"examples {word}: {', '.join(map(str, indices[:_SHOWN]))}{', ...' if len(indices) > _SHOWN else ''}"
        for word, indices in (("lost", found.lost), ("won", found.won))
        if indices
    )
