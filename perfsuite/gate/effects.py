"""From blocks to effects on a sampled metric: logarithms of ratios, in which positive is worse.

So latency, throughput, speedup and energy are one question: is the effect beyond what is tolerated?
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from perfsuite.metric import Sampled
from perfsuite.spec import CANDIDATE, Block, Limit, Status
from perfsuite.stats.blocks import Effect, block_effect
from perfsuite.stats.decision import Decision, Outcome, Spread

RAW_PRIOR = Spread(0.10, 4)  # of raw amounts, between processes, before anything is known (docs/judging.md)

STATUS_OF = {
    Outcome.WORSE: Status.REGRESSED,
    Outcome.WITHIN: Status.PASS,
    Outcome.BETTER: Status.IMPROVED,
    Outcome.UNCLEAR: Status.INCONCLUSIVE,
}


def probe_of(limit: Limit) -> Sampled:
    assert isinstance(limit.metric.probe, Sampled)
    return limit.metric.probe


def orientation(limit: Limit) -> int:
    """1 where the metric gets worse when a call takes more, as nearly always; else -1."""
    return limit.metric.better.sign * probe_of(limit).exponent


def effects(limit: Limit, blocks: Sequence[Block], arm: str) -> list[Effect]:
    """How much worse the candidate is than another arm, in each block."""
    found = [block_effect(block, CANDIDATE, arm, limit.metric.quantity) for block in blocks]
    return [replace(effect, value=orientation(limit) * effect.value) for effect in found]


def why_not_counted(limit: Limit, blocks: Sequence[Block], arms: Sequence[str]) -> str:
    """Why these blocks do not hold what the metric is about; empty if they do."""
    quantity = limit.metric.quantity
    if not quantity:
        return ""
    chunks = [chunk for block in blocks for chunk in block.chunks if chunk.arm in arms]
    for block in blocks:
        if why := block.uncounted.get(quantity):
            return why
    if any(quantity not in chunk.counted for chunk in chunks):
        return "its counter was not read"
    still = [chunk.arm for chunk in chunks if not chunk.counted[quantity] > 0]
    of = ", ".join(sorted(set(still)))
    return f"its counter did not grow in {len(still)} of {len(chunks)} chunks of calls ({of})" if still else ""


def given_up(decision: Decision) -> str:
    """Why there are no more blocks, if that was chosen."""
    return ", and more blocks would hardly tell" if decision.futile else ""


def longer(decision: Decision) -> str:
    """A budget buys more blocks, which may be known not to help."""
    return f"measure longer (--perf-block-time{'' if decision.futile else ', --perf-budget'})"
