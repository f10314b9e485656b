"""Variance shrinkage: how far processes differ, pooled with what is usual.

The value of a block varies for two reasons: its own error, which its many chunks tell, and what differs from process to
process, of which a few blocks tell next to nothing. Only the second is pooled with a prior (the idea of Smyth 2004). It
is what the squares of the values hold beyond their own errors (the moments of DerSimonian and Laird 1986).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from perfsuite.stats.blocks import Effect, own_variances
from perfsuite.stats.decision import CLOCK_SE, Spread, pool

# Of the prior's squares this much always stays: errors within may by chance explain more than there is.
_LEAST = 0.25


def shrunk_spread(prior: Spread, effects: Sequence[Effect], *stored: Spread) -> Spread:
    """The spread of one case between processes: the prior's, that of stored values, and what its blocks show."""
    return _pooled(pool(prior, *stored), [effects])


def learned_prior(cases: Iterable[Sequence[Effect]], default: Spread) -> Spread:
    """What the next case may spread, after the blocks of the cases before it.

    On the degrees of freedom of ``default`` all the same: how far cases differ from one another, few of them do not
    tell. Their mean variance lies above the usual one where they do differ, so that it errs on the safe side.
    """
    return replace(_pooled(default, cases), df=default.df)


def _pooled(prior: Spread, cases: Iterable[Sequence[Effect]]) -> Spread:
    known = prior.df * prior.sd**2
    excesses = [_excess(effects, prior.sd) for effects in cases]
    df = prior.df + sum(excess_df for _, excess_df in excesses)
    squares = known + sum(squares for squares, _ in excesses)
    return Spread(math.sqrt(max(squares, _LEAST * known) / df), df)


def _excess(effects: Sequence[Effect], sd: float) -> tuple[float, float]:
    """The sum of squares beyond the blocks' own errors, which may be negative, and its degrees of freedom.

    Blocks count by their precision if ``sd`` were true, so that one of a noisy moment says little. Of equal ones
    it is the sum of squares about their mean, less as many times the variance within as there are degrees of freedom.
    """
    if len(effects) < 2:
        return 0.0, 0.0
    own = own_variances(effects)
    weights = [1 / max(sd**2 + variance, CLOCK_SE**2) for variance in own]
    total, squared = sum(weights), sum(weight**2 for weight in weights)
    center = sum(weight * effect.value for weight, effect in zip(weights, effects, strict=True)) / total
    scatter = sum(
        weight * (effect.value - center) ** 2 - weight * (1 - weight / total) * variance
        for weight, effect, variance in zip(weights, effects, own, strict=True)
    )
    df = total**2 / squared - 1
    return scatter / (total - squared / total) * df, df
