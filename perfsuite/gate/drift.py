"""A time that grows with the calls: how long one call takes depends on how often it was called before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from perfsuite.gate.baseline import Baseline
from perfsuite.gate.verdicts import verdict
from perfsuite.spec import (
    BASE,
    CANDIDATE,
    ORIGINAL,
    SECOND,
    YARDSTICK,
    Against,
    Block,
    Evidence,
    Limit,
    Status,
    Verdict,
)
from perfsuite.stats.drift import drift

REMEDY = (
    "let each call do the same: perf(function, setup=make) makes fresh state before each; a model's forward leaves "
    "nothing behind"
)


def unless_drifting(judged: Verdict, limit: Limit, evidence: Evidence, baseline: Baseline) -> Verdict:
    """The verdict, if the time does not drift.

    Else nothing was measured that has one value: it is neither within a limit nor better than another time. What
    has regressed, or may have, stays so, with the drift as a detail: the change may have brought it.
    """
    if judged.status not in (Status.PASS, Status.IMPROVED, Status.REGRESSED, Status.INCONCLUSIVE):
        return judged
    why = told(*_sampled(limit, evidence, baseline))
    if not why:
        return judged
    if judged.status in (Status.REGRESSED, Status.INCONCLUSIVE):
        remedy = judged.remedy if judged.status is Status.REGRESSED else REMEDY
        return replace(judged, details=(*judged.details, why), remedy=remedy)
    sentence = f"{limit.metric.name} has no one value: {why}"
    return verdict(limit, evidence, Status.NOT_MEASURED, sentence, remedy=REMEDY)


def told(blocks: Sequence[Block], beside: Sequence[str]) -> str:
    """What is said of the candidate's calls, if they drift; ``beside``: arms that may be steadier."""
    growths = filter(None, (drift(blocks, CANDIDATE, arm) for arm in beside))
    growth = max(growths, default=None)
    if growth is None:
        return ""
    return f"later calls take {growth:.1f} times as long as the first ones of the same process"


def _sampled(limit: Limit, evidence: Evidence, baseline: Baseline) -> tuple[Sequence[Block], Sequence[str]]:
    """The blocks that the limit is judged on, and what its calls may be told apart from there.

    A yardstick leaves nothing behind. A base or an original may do what the candidate does, so that the
    candidate is also looked at by itself; so it is where there is nothing else.
    """
    if baseline.base and limit.is_tolerance:
        return evidence.beside_base, (BASE, "")
    if limit.metric.against is Against.ORIGINAL:
        return evidence.blocks, (ORIGINAL, "")
    alone = limit.is_bound or evidence.yardstick == SECOND
    return evidence.blocks, ("",) if alone else (YARDSTICK,)
