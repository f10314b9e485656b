"""The interim decision after every block, with the allowed error spent over all decisions (looks).

Each is a Student t bound on each side of the tolerance, at levels that let all looks together err as
often as is allowed (perfsuite.stats.spending). What acquits is spent evenly, since most code is
unchanged and should be done with soon; what convicts is spent late, where small effects are found.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from perfsuite.stats.blocks import Effect, own_variances
from perfsuite.stats.decision import (
    CLOCK_SE,
    POWER,
    Decision,
    Estimate,
    Outcome,
    Spread,
    student_t,
    student_t_quantile,
)
from perfsuite.stats.spending import evenly, late, level

KNOWN = Estimate(0.0, 0.0, math.inf)  # a reference without error: the other arm, or a bound
# The most degrees of freedom that errors within blocks may lend to a spread that has fewer, however large they are: the
# case may be one whose processes differ far more than is usual. With a true effect equal to the tolerance, a case drawn
# around the prior is called WORSE in up to 0.24% and WITHIN in up to 6.2% where 0.14% and 5% are allowed; without a
# limit it is up to 0.80% and 8.4% (benchmarks/error_rates.py).
MAX_DF = 10.0
_MIN_PREDICTIVE_POWER = 0.05  # a case is stopped for futility below it
_FUTILITY_FROM_BLOCK = 3  # the spread of two blocks is too uncertain


@dataclass(frozen=True)
class Errors:
    """What is allowed over all looks at one effect: ``alpha`` to call it worse than tolerated
    although it is not (or better), ``beta`` to call it within although it is beyond.
    """

    alpha: float = 0.01
    beta: float = 0.05
    looks: int = 8


def weigh(effects: Sequence[Effect], spread: Spread) -> Estimate:
    """The mean of the blocks' effects, each weighted by the inverse of its variance.

    A block varies by ``spread``, which is that between processes, and by its own error. The mean's degrees of freedom
    follow from what these parts rest on (Satterthwaite 1946).
    """
    between, own = spread.sd**2, own_variances(effects)
    weights = [1 / max(between + variance, CLOCK_SE**2) for variance in own]
    total = sum(weights)
    shares = [weight**2 / total for weight in weights]  # of the mean's variance, by unit of a block's
    parts = [(between * sum(shares), spread.df)]
    parts += [(share * variance, one.df) for share, variance, one in zip(shares, own, effects, strict=True)]
    doubt, most = sum(part**2 / df for part, df in parts), max(MAX_DF, spread.df)
    center = statistics.fmean([effect.value for effect in effects], weights)
    return Estimate(center, 1 / math.sqrt(total), 1 / doubt if doubt > 1 / most else most)


def interim_decision(
    effects: Sequence[Effect],
    spread: Spread,
    tolerance: float,
    errors: Errors,
    reference: Estimate = KNOWN,
    convicts_from: int = 2,
) -> Decision:
    """Judge the log effects (positive = worse) of all blocks so far; the number of blocks is the look.

    ``spread`` is that between processes, its variance shrunk; ``tolerance`` may be negative ("at least 1.5x faster").
    ``reference`` is what the effects are relative to, where that has an error of its own (stored
    blocks, under the same spread). WORSE also asks for ``convicts_from`` blocks whose own effects
    exceed the tolerance, so that one process never convicts; looks that cannot convict spend no
    error on it. Raises ValueError for no blocks, for more than ``errors.looks``, and for a spread
    on no degrees of freedom.
    """
    number, first = len(effects), min(convicts_from, errors.looks)
    if spread.df <= 0:
        raise ValueError("a spread on 0 degrees of freedom bounds nothing: pool it with a prior")
    to_acquit = level(errors.beta, number, errors.looks, evenly)
    to_convict = level(errors.alpha, max(number, first), errors.looks, late, first)
    known = weigh(effects, spread)
    effect = known.minus(reference)
    _, high = effect.bounds(to_acquit)
    low, _ = effect.bounds(to_convict)
    _, surely = effect.bounds(level(errors.alpha, number, errors.looks, evenly))
    agreeing = sum(one.value - reference.center > tolerance for one in effects)
    if low > tolerance and agreeing >= convicts_from:
        outcome = Outcome.WORSE
    elif high > tolerance:
        outcome = Outcome.UNCLEAR
    else:
        outcome = Outcome.BETTER if surely < -abs(tolerance) else Outcome.WITHIN
    reach = student_t_quantile(POWER, effect.df) - student_t_quantile(to_convict, effect.df)
    may_stop = outcome is Outcome.UNCLEAR and _FUTILITY_FROM_BLOCK <= number < errors.looks
    futile = may_stop and predictive_power(known, number, tolerance, errors, reference) < _MIN_PREDICTIVE_POWER
    return Decision(outcome, low, high, tolerance + reach * effect.se, effect.center, futile)


def predictive_power(
    known: Estimate, number: int, tolerance: float, errors: Errors, reference: Estimate = KNOWN
) -> float:
    """The probability that the last look will decide, given what ``number`` blocks, fewer than all, have shown.

    As Spiegelhalter, Freedman and Blackburn (1986) define it: the blocks to come are drawn around
    what the mean may be, as noisy as those that were seen. Stopping for futility can only make errors rarer.
    """
    seen = number / errors.looks
    last = Estimate(known.center, known.se * math.sqrt(seen), known.df + errors.looks - number).minus(reference)
    worse, _ = last.bounds(level(errors.alpha, errors.looks, errors.looks, late))
    _, within = last.bounds(level(errors.beta, errors.looks, errors.looks, evenly))
    still_moves = known.se * math.sqrt(1 - seen)
    above, below = (student_t(margin / still_moves, known.df) for margin in (worse - tolerance, tolerance - within))
    return above + below
