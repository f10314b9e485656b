"""Values on the same examples: flips are counted, differences are tested, means are not subtracted."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from perfsuite.stats.decision import student_t, student_t_quantile

ALPHA = 0.05


@dataclass(frozen=True)
class Flips:
    """Examples whose outcome changed: ``lost`` were right and are wrong now, ``won`` the reverse."""

    lost: tuple[int, ...]
    won: tuple[int, ...]
    examples: int

    @property
    def change(self) -> float:
        """Change of accuracy as a fraction; negative is worse."""
        return (len(self.won) - len(self.lost)) / self.examples

    @property
    def worsening(self) -> float:
        return -self.change

    @property
    def p_worse(self) -> float:
        return p_more_lost(self)

    @property
    def p_better(self) -> float:
        return p_more_won(self)


@dataclass(frozen=True)
class Differences:
    """By how much the number of each example is worse than before; negative: better."""

    values: tuple[float, ...]

    @property
    def examples(self) -> int:
        return len(self.values)

    @property
    def lost(self) -> tuple[int, ...]:
        """The examples that got worse, the worst first."""
        return tuple(sorted((i for i, value in enumerate(self.values) if value > 0), key=lambda i: -self.values[i]))

    @property
    def won(self) -> tuple[int, ...]:
        return Differences(tuple(-value for value in self.values)).lost

    @property
    def worsening(self) -> float:
        return statistics.fmean(self.values)

    @property
    def p_worse(self) -> float:
        return p_mean_above_0(self.values)

    @property
    def p_better(self) -> float:
        return p_mean_above_0([-value for value in self.values])

    @property
    def detectable(self) -> float | None:
        """The least worsening that, with this scatter, is more than chance explains; None where there is none."""
        scatter = _error_of_mean(self.values)
        return student_t_quantile(1 - ALPHA, self.examples - 1) * scatter if scatter else None


def flips(before: Sequence[bool], after: Sequence[bool]) -> Flips:
    """Raises ValueError unless both have the same, non-zero length."""
    pairs = list(enumerate(_pairs(before, after)))
    return Flips(
        lost=tuple(i for i, (old, new) in pairs if old and not new),
        won=tuple(i for i, (old, new) in pairs if new and not old),
        examples=len(before),
    )


def differences(before: Sequence[float], after: Sequence[float], sign: int) -> Differences:
    """``sign``: 1 where lower is better, else -1. Raises ValueError unless both have the same, non-zero length."""
    return Differences(tuple(sign * (new - old) for old, new in _pairs(before, after)))


def _pairs(before: Sequence[float], after: Sequence[float]) -> list[tuple[float, float]]:
    if len(before) != len(after) or not before:
        raise ValueError(f"{len(before)} and {len(after)} examples cannot be paired")
    return list(zip(before, after, strict=True))


def p_mean_above_0(values: Sequence[float]) -> float:
    """One-sided paired t test (Student 1908): the chance of a mean at least this large if the true one were 0.

    Where all differences are equal t says nothing: as many agree by chance as signs do, one in 2^n.
    """
    mean, scatter = statistics.fmean(values), _error_of_mean(values)
    if scatter == 0:
        return 0.5 ** len(values) if mean > 0 else 1.0
    return student_t(-mean / scatter, len(values) - 1)


def _error_of_mean(values: Sequence[float]) -> float:
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0


def p_more_lost(found: Flips) -> float:
    """Exact one-sided McNemar test: the chance of at least this many losses among the flips if
    losing and winning were equally likely (McNemar 1947, exact binomial form).
    """
    return _binomial_tail(len(found.lost), len(found.lost) + len(found.won))


def p_more_won(found: Flips) -> float:
    """The same for wins."""
    return _binomial_tail(len(found.won), len(found.lost) + len(found.won))


def losses_needed(won: int) -> int:
    """The fewest losses that, against so many wins, are more than chance explains."""
    lost = won  # as many are never enough
    while _binomial_tail(lost, lost + won) >= ALPHA:
        lost += 1
    return lost


def _binomial_tail(successes: int, trials: int) -> float:
    """P(X >= successes) for X ~ Binomial(trials, 1/2)."""
    from scipy.special import bdtrc

    return float(bdtrc(successes - 1, trials, 0.5))
