"""What decisions are made of, as pure functions of values: spreads, estimates with their bounds, outcomes.

A few blocks alone know little about their spread, so the variance is shrunk (perfsuite.stats.variance_shrinkage). A
decision is one-sided against the tolerated effect, with a bound on each side of it; what falls between the
bounds is UNCLEAR, and says how large an effect would have been seen (perfsuite.stats.sequential).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

POWER = 0.9  # power for which the smallest detectable effect is given
CLOCK_SE = 1e-9  # the smallest standard error of a log ratio of times


@dataclass(frozen=True)
class Spread:
    """A standard deviation between processes (of log ratios), and the degrees of freedom it rests on."""

    sd: float
    df: float


@dataclass(frozen=True)
class Estimate:
    """A mean log ratio, its standard error, and the degrees of freedom of that error."""

    center: float
    se: float
    df: float

    def minus(self, other: Estimate) -> Estimate:
        """The difference of two independent estimates (both must share one shrunk spread)."""
        return Estimate(self.center - other.center, math.hypot(self.se, other.se), min(self.df, other.df))

    def bounds(self, alpha: float) -> tuple[float, float]:
        """A lower and an upper bound, each one-sided with error ``alpha``."""
        reach = -student_t_quantile(alpha, self.df) * self.se  # from the lower tail: alpha may be tiny
        return self.center - reach, self.center + reach


def pool(*spreads: Spread) -> Spread:
    """One spread from several, each weighted by its degrees of freedom."""
    df = sum(spread.df for spread in spreads)
    return Spread(math.sqrt(sum(spread.sd**2 * spread.df for spread in spreads) / df), df)


def spread_of(values: Sequence[float]) -> Spread:
    """The spread that the values themselves show; one value shows none (0 degrees of freedom)."""
    return Spread(statistics.stdev(values), len(values) - 1) if len(values) > 1 else Spread(0.0, 0)


def estimate(values: Sequence[float], spread: Spread) -> Estimate:
    """The mean of block statistics, with the error that a known (pooled) spread gives it."""
    return Estimate(statistics.fmean(values), spread.sd / math.sqrt(len(values)), spread.df)


class Outcome(Enum):
    WORSE = "worse"  # the lower bound is beyond the tolerance
    WITHIN = "within"  # the upper bound is within the tolerance
    BETTER = "better"  # within, and the upper bound is beyond the tolerance on the good side
    UNCLEAR = "unclear"


@dataclass(frozen=True)
class Decision:
    """``low`` and ``high`` bound the effect, each with an error of its own, so that ``center`` need not
    be their middle; ``detectable`` is the smallest effect seen with power 0.9. ``futile``: UNCLEAR, and
    the blocks to come would hardly change that.
    """

    outcome: Outcome
    low: float
    high: float
    detectable: float
    center: float
    futile: bool = False

    @property
    def is_open(self) -> bool:
        """Whether more blocks may settle it."""
        return self.outcome is Outcome.UNCLEAR and not self.futile


def student_t_quantile(p: float, df: float) -> float:
    """The p-quantile of Student's t."""
    from scipy.special import stdtrit  # 0.3 s to import: only when something is judged

    return float(stdtrit(df, p))


def student_t(x: float, df: float) -> float:
    """The probability that Student's t is at most x."""
    from scipy.special import stdtr

    return float(stdtr(df, x))
