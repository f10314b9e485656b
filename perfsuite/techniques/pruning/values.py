"""Pruning as frozen values. Importing this imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from perfsuite.errors import UsageError
from perfsuite.techniques.recorded import Digested, Recorded

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Magnitude(Recorded):
    """``magnitude-S``: the S percent of weights nearest to zero become zero (Han et al. 2015).

    ``scope`` "local" prunes each tensor to ``sparsity``; "global" (``magnitude-S-global``) prunes all
    of them together. Counts are exact: round(sparsity * numel), also under ties. ``parameters``: the
    names, within a layer, of what is pruned; ``include`` and ``exclude``: layers by name, pattern or
    type. Without ``include``, linear and convolution layers are pruned, and embeddings are not.
    """

    sparsity: float
    scope: Literal["local", "global"] = "local"
    parameters: tuple[str, ...] = ("weight",)
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_sparsity(self.sparsity)
        if self.scope not in ("local", "global"):
            raise UsageError(f"unknown scope {self.scope!r}", "use 'local' or 'global'")

    @property
    def name(self) -> str:
        suffix = "" if self.scope == "local" else "-global"
        return f"magnitude-{percent(self.sparsity)}{suffix}"

    @classmethod
    def from_argument(cls, argument: str | None) -> Magnitude:
        sparsity, scope = _percent_and_rest("magnitude", argument)
        if scope not in ("", "global"):
            raise UsageError(f"unknown scope {scope!r} in 'magnitude-{argument}'", "write 'magnitude-50-global'")
        return cls(sparsity, "global" if scope else "local")

    def change(self, model: nn.Module, data: Digested) -> tuple[nn.Module, dict[str, Any]]:
        from perfsuite.techniques.pruning.magnitude import prune

        return prune(model, self), {}


@dataclass(frozen=True)
class Pattern(Recorded):
    """``pattern-2:4``: of every M neighbouring inputs of a linear layer, the N largest weights are kept.

    The pattern of sparse tensor cores (Mishra et al. 2021). No speed is claimed: torch has no kernel
    for it on CPUs. A remainder of fewer than M inputs keeps its N largest, too.
    """

    keep: int = 2
    of: int = 4
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.keep <= self.of:
            raise UsageError(f"pattern {self.keep}:{self.of} is not possible", "write N:M with 0 < N <= M, such as 2:4")

    @property
    def name(self) -> str:
        return f"pattern-{self.keep}:{self.of}"

    @classmethod
    def from_argument(cls, argument: str | None) -> Pattern:
        keep, _, of = (argument or "2:4").partition(":")
        if not (keep.isdigit() and of.isdigit()):
            raise UsageError(f"technique 'pattern' does not take {argument!r}", "write 'pattern-2:4'")
        return cls(int(keep), int(of))

    def change(self, model: nn.Module, data: Digested) -> tuple[nn.Module, dict[str, Any]]:
        from perfsuite.techniques.pruning.magnitude import prune_pattern

        return prune_pattern(model, self), {}


@dataclass(frozen=True)
class Structured(Recorded):
    """``structured-S``: S percent of the attention heads and feed-forward units (or channels) are removed.

    Physically: the tensors get smaller, and the result equals the model with those parts masked.

    ``heads`` and ``units`` are the fractions that go; at least one of each stays. ``importance``:
    "magnitude" of the weights, or "taylor" (``structured-S-taylor``), the first-order effect on the
    loss over calibration data (Molchanov et al. 2019, Michel et al. 2019). ``scope`` "global" ranks
    all layers together, so that counts differ per layer. ``round_to``: kept units are a multiple.
    """

    heads: float
    units: float
    importance: Literal["magnitude", "taylor"] = "magnitude"
    scope: Literal["local", "global"] = "local"
    round_to: int = 1
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_sparsity(self.heads)
        check_sparsity(self.units)
        if self.importance not in ("magnitude", "taylor"):
            raise UsageError(f"unknown importance {self.importance!r}", "use 'magnitude' or 'taylor'")
        if self.scope not in ("local", "global"):
            raise UsageError(f"unknown scope {self.scope!r}", "use 'local' or 'global'")
        if self.round_to < 1:
            raise UsageError(f"round_to is {self.round_to}", "use 1, or what the hardware likes, such as 16")

    @property
    def name(self) -> str:
        both = percent(self.units) if self.heads == self.units else f"{percent(self.heads)},{percent(self.units)}"
        scope = "" if self.scope == "local" else "-global"
        return f"structured-{both}{'-taylor' if self.importance == 'taylor' else ''}{scope}"

    @classmethod
    def from_argument(cls, argument: str | None) -> Structured:
        amount, *variants = (argument or "").split("-")
        heads, _, units = amount.partition(",")
        if set(variants) - {"taylor", "global"}:
            raise UsageError(f"unknown variant in 'structured-{argument}'", "write 'structured-50-taylor-global', say")
        return cls(
            _fraction("structured", heads),
            _fraction("structured", units or heads),
            "taylor" if "taylor" in variants else "magnitude",
            "global" if "global" in variants else "local",
        )

    def change(self, model: nn.Module, data: Digested) -> tuple[nn.Module, dict[str, Any]]:
        from perfsuite.techniques.pruning.structured import remove

        return remove(model, self, data)

    def shape(self, model: nn.Module, structure: Mapping[str, Any]) -> nn.Module:
        from perfsuite.techniques.pruning.structured import shrink

        return shrink(model, structure)


def check_sparsity(value: float) -> None:
    """Raises UsageError for what is not a fraction."""
    if not 0 <= value <= 1:
        raise UsageError(f"sparsity {value} is not between 0 and 1", "use 0.5 for half of the weights")


def percent(fraction: float) -> str:
    """A fraction in percent, without an exponent: 0.5 -> "50", 1e-7 -> "0.00001"."""
    return f"{fraction * 100:.10f}".rstrip("0").rstrip(".")


def _percent_and_rest(family: str, argument: str | None) -> tuple[float, str]:
    amount, _, rest = (argument or "").partition("-")
    return _fraction(family, amount), rest


def _fraction(family: str, text: str) -> float:
    try:
        return float(text) / 100
    except ValueError:
        raise UsageError(
            f"technique {family!r} needs a percentage, not {text!r}", f"write it as in '{family}-50'"
        ) from None
