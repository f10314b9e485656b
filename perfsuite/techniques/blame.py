"""Which of the changed layers is to blame for an answer that does not follow the original's."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from perfsuite.techniques.replaced import Layer

_MOST_RUNS = 200
_SHOWN = 4  # names that a remedy lists; of more, patterns

Run = Callable[[Sequence[Layer]], float]
"""Calls a result in which these layers alone are changed: how near it is, in dB; minus infinity where it raises."""


class Blame:
    """Searches by halves: as many calls as there are layers to blame, times the logarithm of how many there are."""

    def __init__(self, layers: Sequence[Layer], run: Run, least_db: float) -> None:
        self.layers, self.run, self.least_db = layers, run, least_db
        self.runs = 0

    def found(self) -> tuple[list[Layer], float]:
        """The layers to leave as they were, and how near the answer is then. All of them, if nothing less helps."""
        blamed: list[Layer] = []
        rest = list(self.layers)
        reached = self._with(rest)
        while rest and not reached >= self.least_db:
            found = self._among(rest)
            blamed += found
            rest = [layer for layer in rest if layer not in found]
            reached = self._with(rest)
        return blamed, reached

    def _among(self, layers: list[Layer]) -> list[Layer]:
        """Of layers that are too much together, those that are alone, or else the half of them that is worse."""
        while len(layers) > 1 and self.runs < _MOST_RUNS:
            halves = layers[: len(layers) // 2], layers[len(layers) // 2 :]
            reached = [self._with(half) for half in halves]
            failing = [half for half, db in zip(halves, reached, strict=True) if not db >= self.least_db]
            if len(failing) == 2:
                return [*self._among(failing[0]), *self._among(failing[1])]
            layers = halves[0] if reached[0] <= reached[1] else halves[1]
        return layers

    def _with(self, changed: Sequence[Layer]) -> float:
        """How near the answer is if these layers alone are changed."""
        self.runs += 1
        return self.run(changed)


def typed(blamed: Sequence[str], others: Sequence[str]) -> tuple[str, ...]:
    """Entries for ``exclude``: the names; of many, patterns that take no other layer along, if there are such."""
    if len(blamed) <= _SHOWN:
        return tuple(blamed)
    patterns = dict.fromkeys(_pattern(name) for name in blamed)
    spared = {_pattern(name) for name in others}
    return tuple(blamed) if spared & patterns.keys() else tuple(patterns)


def _pattern(name: str) -> str:
    return re.sub(r"(?<![^.])\d+(?![^.])", "*", name)
