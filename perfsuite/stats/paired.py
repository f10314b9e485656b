"""Accuracy on the same examples: flips are counted, percentages are not subtracted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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


def flips(before: Sequence[bool], after: Sequence[bool]) -> Flips:
    """Raises ValueError unless both have the same, non-zero length."""
    if len(before) != len(after) or not before:
        raise ValueError(f"{len(before)} and {len(after)} examples cannot be paired")
    pairs = list(enumerate(zip(before, after, strict=True)))
    return Flips(
        lost=tuple(i for i, (old, new) in pairs if old and not new),
        won=tuple(i for i, (old, new) in pairs if new and not old),
        examples=len(before),
    )


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
    lost = won + 1
    while _binomial_tail(lost, lost + won) >= ALPHA:
        lost += 1
    return lost


def _binomial_tail(successes: int, trials: int) -> float:
    """P(X >= successes) for X ~ Binomial(trials, 1/2)."""
    from scipy.special import bdtrc

    return float(bdtrc(successes - 1, trials, 0.5))
