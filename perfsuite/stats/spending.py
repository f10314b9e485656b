"""How a decision's error is spent over its looks (Lan and DeMets 1983).

Looks at the same blocks agree with one another, so that what each may err by sums to more than what all
may err by together. How much more follows from the distribution of sums that have crossed no bound before
(Armitage, McPherson and Rowe 1969), for independent blocks of equal weight; a reference with an error of
its own makes looks more alike, and the true error smaller. Levels are one-sided p-values: they are handed
to Student's t, as is usual where the spread is estimated (Jennison and Turnbull 2000, section 4.4).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

Spending = Callable[
    [float], float
]  # from the share of all blocks seen (0 to 1) to the share of the error spent by then

_GRID_STEP, _GRID_REACH = 0.02, 9.0  # of the grid of sums, in standard deviations of one block
_MIN_ERROR = 1e-15  # the smallest error that the grid resolves


def evenly(seen: float) -> float:
    """Spend much of it early, so that clear cases end soon: nearly the same level at each look (Pocock's)."""
    return math.log1p((math.e - 1) * seen)


def late(seen: float) -> float:
    """Keep most of it for the last looks, where the smallest effects are found."""
    return seen**2


def level(total: float, look: int, looks: int, spending: Spending, first: int = 1) -> float:
    """The p-value that one look (from ``first``) may act on, so that all of them err with ``total`` together.

    Raises ValueError for a look that was not planned.
    """
    if not first <= look <= looks:
        raise ValueError(f"look {look} of {looks}" + (f", which begin at {first}" if first > 1 else ""))
    return _levels(max(total, _MIN_ERROR), looks, spending, first)[look - first]


@lru_cache(maxsize=1024)
def _levels(total: float, looks: int, spending: Spending, first: int) -> tuple[float, ...]:
    """Of every look from ``first``: the sums that cross its bound, and none before it, are what it may spend."""
    import numpy as np
    from scipy.special import ndtr

    edge = math.ceil((_GRID_REACH * math.sqrt(looks) + 1) / _GRID_STEP)
    sums = np.arange(-edge, edge + 1) * _GRID_STEP
    one = np.exp(-(sums[abs(sums) <= _GRID_REACH] ** 2) / 2)
    one /= one.sum()  # the distribution of one block's effect
    going_on = (sums == 0).astype(float)  # the distribution of sums that have crossed no bound so far
    levels, spent = [], 0.0
    for number in range(1, looks + 1):
        going_on = np.convolve(going_on, one, mode="same")
        if number < first:
            continue
        by_now = total * spending(number / looks)
        allowed, spent = by_now - spent, by_now
        beyond = np.cumsum(going_on[::-1])[::-1]  # from each grid point on
        cell = int(np.searchsorted(-beyond, -allowed, side="right")) - 1  # the bound lies in it
        crossing = (allowed - (beyond[cell] - going_on[cell])) / going_on[cell]
        bound = sums[cell] + (0.5 - crossing) * _GRID_STEP
        levels.append(float(ndtr(-bound / math.sqrt(number))))
        going_on[cell] *= 1 - crossing
        going_on[cell + 1 :] = 0.0
    return tuple(levels)
