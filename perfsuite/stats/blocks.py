"""From samples to one number per block.

Absolute times on a shared machine drift by the minute; the ratio of two arms sampled alternately
does not. The statistic is the median of the log ratios of *adjacent* chunks: drift cancels between
neighbours, and one burst moves one ratio, not the median.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence

from perfsuite.spec import Block, Chunk


def log_ratio(block: Block, numerator: str, denominator: str) -> float:
    """Median log ratio of adjacent chunks of two arms. Raises ValueError if an arm was not sampled."""
    mine = [chunk for chunk in block.chunks if chunk.arm in (numerator, denominator)]
    pairs = [_oriented(a, b, numerator) for a, b in itertools.pairwise(mine) if a.arm != b.arm]
    if not pairs:
        raise ValueError(f"the block has no adjacent chunks of {numerator!r} and {denominator!r}")
    return statistics.median(pairs)


def _oriented(a: Chunk, b: Chunk, numerator: str) -> float:
    log = math.log(a.median_ns / b.median_ns)
    return log if a.arm == numerator else -log


def quantile(values: Sequence[float], q: float) -> float:
    """Linear-interpolated quantile, q from 0 to 1 (type 7 of Hyndman and Fan 1996)."""
    ordered = sorted(values)
    position = q * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)
