"""Rates with exact bounds that rest on what is independent, not on how often it was drawn."""

import math
from dataclasses import dataclass

CONFIDENCE = 0.95


def clopper_pearson(hits, of, confidence=CONFIDENCE):
    """Exact two-sided bounds of a binomial rate (Clopper and Pearson 1934). Numbers need not be whole."""
    from scipy.special import betaincinv

    tail = (1 - confidence) / 2
    low = float(betaincinv(hits, of - hits + 1, tail)) if hits > 0 else 0.0
    high = float(betaincinv(hits + 1, of - hits, 1 - tail)) if hits < of else 1.0
    return low, high


@dataclass(frozen=True)
class Rate:
    """``value`` from all draws; its bounds as if it had been seen in ``independent`` trials."""

    value: float
    independent: float

    @property
    def bounds(self):
        return clopper_pearson(self.value * self.independent, self.independent) if self.independent > 0 else (0.0, 1.0)

    def bound(self, upper):
        """The one-sided bound: what a limit on one side asks for."""
        return clopper_pearson(self.value * self.independent, self.independent, 2 * CONFIDENCE - 1)[upper]

    def __str__(self):
        low, high = self.bounds
        return f"{100 * self.value:.1f}% [{100 * low:.1f}, {100 * high:.1f}]"


def pooled(rates):
    """One rate over several conditions, each of equal weight; None of nothing."""
    if not rates:
        return None
    return Rate(math.fsum(rate.value for rate in rates) / len(rates), sum(rate.independent for rate in rates))


def clustered(sessions):
    """The rate of True over all tests of all sessions; tests of one session share its noise.

    The number of independent trials is what the variance between sessions tells (Rao and Scott 1992),
    at least the sessions and at most the tests. A rate of 0 or 1 shows no variance: then the sessions.
    """
    number, tests = len(sessions), sum(map(len, sessions))
    if not tests:
        return Rate(0.0, 0)
    value = sum(map(sum, sessions)) / tests
    if number < 2 or value in (0, 1):
        return Rate(value, number)
    scatter = sum((sum(session) - value * len(session)) ** 2 for session in sessions)
    variance = scatter * number / (number - 1) / tests**2
    if variance == 0:
        return Rate(value, tests)
    return Rate(value, min(max(value * (1 - value) / variance, number), tests))


def mean_interval(values, confidence=CONFIDENCE):
    """Mean and Student t bounds of values from independent blocks; infinite bounds of a single one."""
    from scipy.special import stdtrit

    number, mean = len(values), math.fsum(values) / len(values)
    if number < 2:
        return mean, -math.inf, math.inf
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (number - 1))
    reach = float(stdtrit(number - 1, (1 + confidence) / 2)) * sd / math.sqrt(number)
    return mean, mean - reach, mean + reach
