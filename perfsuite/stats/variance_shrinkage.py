"""Variance shrinkage: the spread of a case between processes, pooled with what all cases of the suite show.

A case measured with two blocks knows next to nothing about its own spread, but fifty such cases know
what spreads are usual here. Empirical Bayes (Smyth 2004): the variances of the cases are taken to be
drawn around s0^2, as if each had been seen with d0 degrees of freedom before; (s0, d0) is fitted by
the moments of the log variances and pooled with what a case shows itself.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from perfsuite.stats.blocks import Effect
from perfsuite.stats.decision import Spread, pool, spread_of

# The most degrees of freedom that the prior may have, however alike the cases are: the next one may differ. A case
# twice as noisy as its suite, with a true effect equal to the tolerance, is called WORSE in 4% where 1% is allowed.
# With a limit of 10 degrees of freedom it would be 7%, with 4 it would be 3% (benchmarks/error_rates.py).
MAX_DF = 6.0
DEFAULT_CASES = 8  # the scatter of fewer cases says less about d0 than the default does


def shrunk_spread(prior: Spread, effects: Sequence[Effect], *stored: Spread) -> Spread:
    """The spread of one case with its variance shrunk: pooled with the prior, and with what is stored."""
    return pool(prior, spread_of([effect.value for effect in effects]), *stored)


def fit_prior(spreads: Sequence[Spread], default: Spread) -> Spread:
    """Fit (s0, d0) to the spreads of the suite's cases. Without any, the answer is ``default``.

    Log variances are weighted by their own precision, since cases differ in their number of blocks
    (DerSimonian and Laird 1986; with equal numbers this is Smyth's estimator). ``default`` counts
    as one more case for s0, of which one case tells much, and as DEFAULT_CASES for d0, of which it
    tells nothing. A spread of 0, or on 0 degrees of freedom, was not measured and is left out.
    """
    cases = [spread for spread in spreads if spread.df > 0 and spread.sd > 0]
    if not cases:
        return default
    logs, weights = [_log_variance(case) for case in cases], [_precision(case) for case in cases]
    weight = _precision(default)
    level = statistics.fmean([*logs, _log_variance(default)], [*weights, weight])
    df = 2 * inverse_trigamma(_excess(logs, weights, weight))
    return Spread(math.exp((level - _bias(df)) / 2), min(df, MAX_DF))


def _excess(logs: Sequence[float], weights: Sequence[float], default: float) -> float:
    """The variance of the log variances beyond what their own degrees of freedom explain."""
    center = statistics.fmean(logs, weights)
    scatter = sum(weight * (log - center) ** 2 for log, weight in zip(logs, weights, strict=True)) - (len(logs) - 1)
    share = sum(weights) - sum(weight**2 for weight in weights) / sum(weights)
    return (scatter + DEFAULT_CASES) / (share + DEFAULT_CASES * default)


def _log_variance(spread: Spread) -> float:
    """The log variance, without the bias that few degrees of freedom give it."""
    return 2 * math.log(spread.sd) + _bias(spread.df)


def _bias(df: float) -> float:
    from scipy.special import digamma

    if math.isinf(df):
        return 0.0
    return math.log(df / 2) - float(digamma(df / 2))


def _precision(spread: Spread) -> float:
    """1 / the variance of a log variance on so many degrees of freedom."""
    return 1 / trigamma(spread.df / 2)


def trigamma(x: float) -> float:
    from scipy.special import polygamma

    return float(polygamma(1, x))


def inverse_trigamma(y: float) -> float:
    """The x > 0 with trigamma(x) = y, infinite for y <= 0 (Newton on 1/trigamma: Smyth 2004, appendix)."""
    from scipy.special import polygamma

    if y <= 0:
        return math.inf
    x, step = 0.5 + 1 / y, math.inf
    while abs(step) > 1e-8 * x:
        value = trigamma(x)
        step = value * (1 - value / y) / float(polygamma(2, x))
        x += step
    return x
