"""What a technique promises of its result, before anything is counted or measured. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from perfsuite.techniques.coverage import Coverage


@dataclass(frozen=True)
class Claims:
    """``sparsity``, ``heads``, ``units`` and ``layers`` are fractions that go (0 to 1), ``bits`` is a weight's width.

    ``series`` is the name without the one fraction that it says, and that fraction: results of one series, drawn over
    the fraction, are one line. ``touched``: by claim, the fraction of the weights' bytes that it holds for, where that
    was counted in a result. None stands for what is not claimed.
    """

    sparsity: float | None = None
    heads: float | None = None
    units: float | None = None
    layers: float | None = None
    bits: int | None = None
    series: tuple[str, float] | None = None
    touched: Mapping[str, float] = field(default_factory=dict)

    @property
    def shrinks(self) -> bool:
        """Whether a smaller model is promised: zeros alone make none."""
        return self.bits is not None or any((self.heads, self.units, self.layers))

    @property
    def numbers(self) -> dict[str, Any]:
        """The numbers that are claimed, by name."""
        return {name: value for name, value in self.described.items() if name not in ("series", "touched")}

    @property
    def described(self) -> dict[str, Any]:
        """All that is claimed, as reports get it."""
        return {name: value for name, value in asdict(self).items() if value is not None and value != {}}

    def after(self, coverage: Coverage | None) -> Claims:
        """What is still claimed once the result is there: the units that went in it, and how much of it is touched."""
        if coverage is None:
            return self
        gone = {kind: found.units / found.of if found.of else 0.0 for kind, found in coverage.removed.items()}
        kinds = ("heads", "units", "layers")
        heads, units, layers = (gone.get(kind) if coverage.removed else getattr(self, kind) for kind in kinds)
        found = replace(self, heads=heads, units=units, layers=layers)
        return replace(found, touched=dict.fromkeys(found.numbers, coverage.share))


def claims_of(technique: object) -> Claims:
    """What a technique claims. One from outside need not say anything."""
    claims: Claims = getattr(technique, "claims", Claims())
    return claims


def combined(steps: Sequence[tuple[str, Claims]]) -> Claims:
    """What steps claim together, given by name in the order of applying: the last one that says a number wins.

    The first step that belongs to a series makes one of all of them.
    """
    numbers = {name: value for _, claims in steps for name, value in claims.numbers.items()}
    numbers["touched"] = {name: share for _, claims in steps for name, share in claims.touched.items()}
    for at, (_, claims) in enumerate(steps):
        if claims.series:
            names = [claims.series[0] if number == at else name for number, (name, _) in enumerate(steps)]
            return Claims(**numbers, series=("+".join(names), claims.series[1]))
    return Claims(**numbers)
