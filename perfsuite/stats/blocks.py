"""From samples to one number per block, and how sure the block is of it.

Absolute times on a shared machine drift by the minute; the ratio of two arms sampled alternately
does not. The statistic is the median of the log ratios of *adjacent* chunks: drift cancels between
neighbours, and one burst moves one ratio, not the median.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from perfsuite.metric import ELAPSED
from perfsuite.spec import Block, Chunk


@dataclass(frozen=True)
class Effect:
    """The log ratio that one block shows, its standard error *within* the block, and on what that rests.

    What differs from process to process is not in ``se``: that is the spread between blocks.
    """

    value: float
    se: float
    df: float = math.inf  # degrees of freedom of the error


_POOLED_DF = 4  # as many degrees of freedom as the other blocks have in the error of one


def own_variances(effects: Sequence[Effect]) -> list[float]:
    """The variance within each block, pooled with the median of all: few ratios may agree by chance.

    Else such a block would count for more than all others. Where there are dozens of ratios it changes little.
    """
    usual = statistics.median(effect.se**2 for effect in effects)
    return [effect.se**2 + (usual - effect.se**2) * _POOLED_DF / (effect.df + _POOLED_DF) for effect in effects]


def log_ratio(block: Block, numerator: str, denominator: str, quantity: str = ELAPSED) -> float:
    """Median log ratio of adjacent chunks of two arms. Raises ValueError if an arm was not sampled."""
    return statistics.median(_ratios(block, numerator, denominator, quantity)[0])


def block_effect(block: Block, numerator: str, denominator: str, quantity: str = ELAPSED) -> Effect:
    """The same median with its error. Raises ValueError where fewer than two ratios show no scatter."""
    return _median(*_ratios(block, numerator, denominator, quantity))


def _ratios(block: Block, numerator: str, denominator: str, quantity: str) -> tuple[list[float], int]:
    """Log ratios of adjacent chunks, and how many of them share a chunk with the one before."""
    mine = [chunk for chunk in block.chunks if chunk.arm in (numerator, denominator)]
    pairs = list(itertools.pairwise(mine))
    usable = [a.arm != b.arm for a, b in pairs]
    if not any(usable):
        raise ValueError(f"the block has no adjacent chunks of {numerator!r} and {denominator!r}")
    return [_oriented(a, b, numerator, quantity) for a, b in itertools.compress(pairs, usable)], _shared(usable)


def _oriented(a: Chunk, b: Chunk, numerator: str, quantity: str) -> float:
    log = math.log(a.amount(quantity) / b.amount(quantity))
    return log if a.arm == numerator else -log


def _shared(usable: Sequence[bool]) -> int:
    return sum(one and other for one, other in itertools.pairwise(usable))


def _median(ratios: Sequence[float], shared: int) -> Effect:
    """The median, with a standard error from the order statistics around it (Price and Bonett 2001).

    Unlike a multiple of the MAD it stays honest where the ratios have two modes, and at ten of them.
    Two ratios that share a chunk are correlated by 1/2 at most (independent noise; less where noise
    lasts), so their signs about the median by 2/pi * asin(1/2) = 1/3: each such pair adds 2/3 of a
    ratio's variance. Few ratios can agree by chance: the error is widened as Student's t is at 95%.
    """
    from scipy.special import bdtr, ndtri, stdtrit

    number = len(ratios)
    if number < 2:
        raise ValueError(f"{number} ratio(s) of adjacent chunks show no scatter: sample more rounds")
    ordered = sorted(ratios)
    outside = max(1, round((number + 1) / 2 - math.sqrt(number)))
    reach = -ndtri(bdtr(outside - 1, number, 0.5))  # of the interval between the two, in standard errors
    se = (ordered[-outside] - ordered[outside - 1]) / (2 * float(reach))
    widened = float(stdtrit(number - 1, 0.975) / ndtri(0.975))
    return Effect(statistics.median(ordered), se * math.sqrt(1 + 2 / 3 * shared / number) * widened, number - 1)


def percentiles_ms(blocks: Sequence[Block], arm: str) -> tuple[float, float, float]:
    """The p50, p90 and p99 of an arm's calls.

    Each is the median over blocks of the block's percentile, so that one slow process does not set it.
    """
    samples = [block.of(arm) for block in blocks]
    p50, p90, p99 = (statistics.median(quantile(block, q) for block in samples) / 1e6 for q in (0.5, 0.9, 0.99))
    return p50, p90, p99


def quantile(values: Sequence[float], q: float) -> float:
    """Linear-interpolated quantile, q from 0 to 1 (type 7 of Hyndman and Fan 1996)."""
    ordered = sorted(values)
    position = q * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)
