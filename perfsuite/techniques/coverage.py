"""What a technique has touched of a model's weights, as a frozen value, and in words. Imports no torch.

It is counted in the model and in its result (perfsuite.techniques.counting): what was asked for does not enter.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

import msgspec

Count = Annotated[int, msgspec.Meta(ge=0)]
_SHOWN = 3  # types of layers that a sentence names


class CoverageWarning(UserWarning):
    """A technique that claims to shrink a model has touched less than half of its weights' bytes."""


@dataclass(frozen=True)
class Removed:
    """Units of one kind ("heads", "units") that structured pruning took out of ``layers`` layers, of ``of`` in all."""

    units: Count
    asked: Count
    of: Count
    layers: Count


@dataclass(frozen=True)
class Coverage:
    """Weights are float tensors of two and more dimensions: matrices, tables, kernels; tied ones count once.

    ``forms``: how many have been changed into what ("int8", "int8 computed in float", "4-bit", "bfloat16", "cut",
    "changed"). ``left``: how many are as they were, by the type of their layer, the most bytes first. ``touched_bytes``
    of ``bytes`` are those that the changed ones had before; ``size_before`` and ``size_after`` are the bytes of all
    tensors of the model.
    """

    forms: Mapping[str, Count]
    left: Mapping[str, Count]
    touched_bytes: Count
    bytes: Count
    size_before: Count
    size_after: Count
    removed: Mapping[str, Removed] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """The touched fraction of the weights' bytes, 0 to 1; 0 for a model without any."""
        return self.touched_bytes / self.bytes if self.bytes else 0.0

    @property
    def smaller(self) -> float:
        """How many times smaller all tensors are together."""
        return self.size_before / self.size_after if self.size_after else 1.0

    def __str__(self) -> str:
        number = sum(self.forms.values()) + sum(self.left.values())
        changed = " and ".join(f"{count} of {number} weights {_form(form)}" for form, count in self.forms.items())
        said = f"{changed or f'none of {number} weights changed'} ({self.share:.0%} of bytes)"
        return "; ".join(filter(None, (said, _left(self.left), _removed(self.removed), f"{self.smaller:.2f}x smaller")))


def warn_if_little(name: str, model: str, coverage: Coverage) -> None:
    """Warns (CoverageWarning) where a technique of that name has touched less than half, at the line that called us."""
    if coverage.bytes and coverage.share < 0.5:
        warnings.warn(
            f"{name} has touched less than half of the weights of the {model}: {coverage}",
            CoverageWarning,
            stacklevel=level_outside(),
        )


def level_outside() -> int:
    """How many frames up the first one is that is no code of perfsuite."""
    level, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "perfsuite":
        level, frame = level + 1, frame.f_back
    return level - 1


def _form(form: str) -> str:
    return form if form in ("cut", "changed", "gone") else f"in {form}"


def _left(left: Mapping[str, int]) -> str:
    shown = [f"{count} of type {kind}" for kind, count in list(left.items())[:_SHOWN]]
    rest = sum(list(left.values())[_SHOWN:])
    return f"left as they were: {', '.join((*shown, f'{rest} more') if rest else shown)}" if shown else ""


def _removed(removed: Mapping[str, Removed]) -> str:
    said = [
        f"{found.units} of the {found.asked} {kind} that were to go, of {found.of} in {found.layers} layers"
        for kind, found in removed.items()
    ]
    return f"removed: {'; '.join(said)}" if said else ""
