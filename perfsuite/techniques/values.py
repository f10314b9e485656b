"""Techniques as frozen values whose fields are their identity. Importing this imports no torch.

A name is ``family`` or ``family-argument``, and a pipeline joins names with "+", in the order they
are applied: ``magnitude-50+int8-dynamic``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Literal

from perfsuite.errors import UnknownNameError, UsageError
from perfsuite.protocols import Inputs, Technique
from perfsuite.registry import TECHNIQUES, Registry, TechniqueFactory

if TYPE_CHECKING:
    from torch import nn

PrecisionName = Literal["bf16", "fp16"]


@dataclass(frozen=True)
class Original:
    """``fp32``: the model as it is, copied."""

    @property
    def name(self) -> str:
        return "fp32"

    @classmethod
    def from_argument(cls, argument: str | None) -> Original:
        _refuse("fp32", argument)
        return cls()

    def apply(self, model: nn.Module, *, data: Iterable[Inputs] | None = None) -> nn.Module:
        from perfsuite.techniques.common import copy_finite

        return copy_finite(model)

    def skeleton(self, model: nn.Module) -> nn.Module:
        return model


@dataclass(frozen=True)
class Magnitude:
    """``magnitude-S``: the S percent of weights nearest to zero become zero (Han et al. 2015).

    ``scope`` "local" prunes each weight tensor to ``sparsity``; "global" (``magnitude-S-global``)
    prunes all of them together. Counts are exact: round(sparsity * numel), also under ties.
    """

    sparsity: float
    scope: Literal["local", "global"] = "local"

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity <= 1:
            raise UsageError(f"sparsity {self.sparsity} is not between 0 and 1", "use 0.5 for half of the weights")
        if self.scope not in ("local", "global"):
            raise UsageError(f"unknown scope {self.scope!r}", "use 'local' or 'global'")

    @property
    def name(self) -> str:
        suffix = "" if self.scope == "local" else "-global"
        return f"magnitude-{round(self.sparsity * 100, 10):g}{suffix}"

    @classmethod
    def from_argument(cls, argument: str | None) -> Magnitude:
        percent, _, scope = (argument or "").partition("-")
        try:
            sparsity = float(percent) / 100
        except ValueError:
            raise UsageError(
                f"technique 'magnitude' needs a percentage, not {argument!r}", "write it as in 'magnitude-50'"
            ) from None
        if scope not in ("", "global"):
            raise UsageError(f"unknown scope {scope!r} in 'magnitude-{argument}'", "write 'magnitude-50-global'")
        return cls(sparsity, "global" if scope else "local")

    def apply(self, model: nn.Module, *, data: Iterable[Inputs] | None = None) -> nn.Module:
        from perfsuite.techniques.magnitude import prune

        return prune(model, self.sparsity, self.scope)

    def skeleton(self, model: nn.Module) -> nn.Module:
        return model


@dataclass(frozen=True)
class Int8Dynamic:
    """``int8-dynamic``: linear and embedding weights in int8, activations quantized per token on the fly.

    ``embeddings=False`` (``int8-dynamic-linear``) leaves embeddings as they are.
    """

    embeddings: bool = True

    @property
    def name(self) -> str:
        return "int8-dynamic" if self.embeddings else "int8-dynamic-linear"

    @classmethod
    def from_argument(cls, argument: str | None) -> Int8Dynamic:
        if argument not in (None, "linear"):
            raise UsageError(
                f"unknown variant 'int8-dynamic-{argument}'", "use 'int8-dynamic' or 'int8-dynamic-linear'"
            )
        return cls(embeddings=argument is None)

    def apply(self, model: nn.Module, *, data: Iterable[Inputs] | None = None) -> nn.Module:
        from perfsuite.techniques.common import copy_finite
        from perfsuite.techniques.int8 import quantize

        return quantize(copy_finite(model), embeddings=self.embeddings)

    def skeleton(self, model: nn.Module) -> nn.Module:
        from perfsuite.techniques.int8 import quantize

        return quantize(model, embeddings=self.embeddings)


@dataclass(frozen=True)
class Precision:
    """``bf16`` or ``fp16``: every floating-point weight is cast; inputs are cast on the way in, outputs back."""

    dtype: PrecisionName

    @property
    def name(self) -> str:
        return self.dtype

    def apply(self, model: nn.Module, *, data: Iterable[Inputs] | None = None) -> nn.Module:
        from perfsuite.techniques.common import copy_finite
        from perfsuite.techniques.precision import cast

        return cast(copy_finite(model), self.dtype)

    def skeleton(self, model: nn.Module) -> nn.Module:
        from perfsuite.techniques.precision import cast

        return cast(model, self.dtype)


def bf16_from_argument(argument: str | None) -> Precision:
    _refuse("bf16", argument)
    return Precision("bf16")


def fp16_from_argument(argument: str | None) -> Precision:
    _refuse("fp16", argument)
    return Precision("fp16")


@dataclass(frozen=True)
class Pipeline:
    """Techniques applied one after the other: ``magnitude-50+int8-dynamic``."""

    steps: tuple[Technique, ...]

    def __post_init__(self) -> None:
        if not self.steps:
            raise UsageError("a pipeline needs at least one technique", "write it as in 'magnitude-50+int8-dynamic'")

    @property
    def name(self) -> str:
        return "+".join(step.name for step in self.steps)

    def apply(self, model: nn.Module, *, data: Iterable[Inputs] | None = None) -> nn.Module:
        return reduce(lambda current, step: step.apply(current, data=data), self.steps, model)

    def skeleton(self, model: nn.Module) -> nn.Module:
        return reduce(lambda current, step: step.skeleton(current), self.steps, model)


def parse_technique(name: str, registry: Registry[TechniqueFactory] = TECHNIQUES) -> Technique:
    """A technique from its name. Raises UnknownNameError with the nearest names, UsageError for a bad argument."""
    steps = tuple(_parse_step(step.strip(), registry) for step in name.split("+"))
    return steps[0] if len(steps) == 1 else Pipeline(steps)


def _parse_step(name: str, registry: Registry[TechniqueFactory]) -> Technique:
    families = [family for family in registry.names() if name == family or name.startswith(f"{family}-")]
    if not families:
        raise UnknownNameError("technique", name, registry.names())
    family = max(families, key=len)
    return registry.get(family)(name[len(family) + 1 :] or None)


def _refuse(name: str, argument: str | None) -> None:
    if argument is not None:
        raise UsageError(f"technique {name!r} takes no argument, not {argument!r}", f"write {name!r}")
