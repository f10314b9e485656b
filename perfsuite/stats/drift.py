"""Whether the calls of an arm take longer and longer, so that the measured time depends on the number of calls.

The criterion is strong, since steady code must never meet it: the last third of the calls takes at least half as
long again as the first third, by itself and beside an arm that leaves nothing behind, and nearly every later time is
longer than nearly every earlier one (Kendall 1938). A step, as of a neighbour that arrives, has a tau of at most
1/2; a warm-up gets faster; a clock that is lowered slows both arms.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from perfsuite.spec import Block, Chunk

GROWTH_BESIDE = math.log(1.5)  # beside an arm whose calls leave nothing behind
GROWTH_ALONE = math.log(3)  # where there is none, the drift of the machine does not cancel
_MIN_TAU = 0.7
_MIN_Z = 4.0  # standard deviations of Kendall's score: by chance one steady block in 30,000 exceeds them
_POINTS_PER_BLOCK = 24  # a block with fewer chunks has them divided, as far as they have calls


@dataclass(frozen=True)
class _Trend:
    """Log times in the order of their calls; at least three."""

    series: Sequence[float]

    @property
    def growth(self) -> float:
        """From the first third to the last."""
        third = len(self.series) // 3
        return statistics.median(self.series[-third:]) - statistics.median(self.series[:third])

    @property
    def score(self) -> int:
        """Kendall's: pairs in which the later is longer, less those in which it is shorter."""
        pairs = itertools.combinations(self.series, 2)
        return sum((later > earlier) - (later < earlier) for earlier, later in pairs)

    @property
    def pairs(self) -> float:
        return len(self.series) * (len(self.series) - 1) / 2

    @property
    def variance(self) -> float:
        """Of the score, where there is no trend."""
        return self.pairs * (2 * len(self.series) + 5) / 9


def drift(blocks: Sequence[Block], arm: str, beside: str = "") -> float | None:
    """How many times as long the last calls take as the first ones, if they drift; None if nothing shows that they do.

    ``beside``: an arm that was sampled alternately and leaves nothing behind, so that the machine's drift cancels.
    """
    least = GROWTH_BESIDE if beside else GROWTH_ALONE
    alone, relative = _trends(blocks, arm), _trends(blocks, arm, beside)
    if not relative:
        return None
    growth = min(statistics.median(trend.growth for trend in trends) for trends in (alone, relative))
    return math.exp(growth) if growth >= least and _is_monotone(relative) else None


def _is_monotone(trends: Sequence[_Trend]) -> bool:
    score, pairs = sum(trend.score for trend in trends), sum(trend.pairs for trend in trends)
    return score >= _MIN_TAU * pairs and score >= _MIN_Z * math.sqrt(sum(trend.variance for trend in trends))


def _trends(blocks: Sequence[Block], arm: str, beside: str = "") -> list[_Trend]:
    """Of the blocks that have a first third and a last."""
    return [_Trend(series) for block in blocks if len(series := _series(block, arm, beside)) > 2]


def _series(block: Block, arm: str, beside: str) -> list[float]:
    """Log times in their order, each beside the other arm's chunk of the same round."""
    mine = [chunk for chunk in block.chunks if chunk.arm == arm]
    others = [math.log(chunk.median_ns) for chunk in block.chunks if chunk.arm == beside]
    pairs = list(zip(mine, others if beside else [0.0] * len(mine), strict=False))
    parts = -(-_POINTS_PER_BLOCK // max(1, len(pairs)))
    return [time - other for chunk, other in pairs for time in _log_times(chunk, parts)]


def _log_times(chunk: Chunk, parts: int) -> Iterator[float]:
    """The median log time of each of ``parts`` parts of a chunk, or of each of its calls if it has fewer."""
    calls = chunk.calls_ns
    ends = [round(index * len(calls) / parts) for index in range(parts + 1)]
    for start, end in itertools.pairwise(ends):
        if start < end:
            yield math.log(statistics.median(calls[start:end]))
