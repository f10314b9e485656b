"""Quantization as frozen values. Importing this imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from perfsuite.errors import UsageError
from perfsuite.techniques.recorded import Digested, Recorded

if TYPE_CHECKING:
    from torch import nn

Ranges = Literal["minmax", "percentile", "mse"]


@dataclass(frozen=True)
class Int8Dynamic(Recorded):
    """``int8-dynamic``: linear and embedding weights in int8 per channel, activations quantized on the fly.

    ``per_token=False`` (``int8-dynamic-tensor``): one scale for all activations of a call.
    ``per_channel=False``: one scale for all weights of a layer.
    ``embeddings=False`` (``int8-dynamic-linear``) leaves embeddings as they are. ``include`` and
    ``exclude``: layers by name, pattern or type.
    """

    embeddings: bool = True
    per_token: bool = True
    per_channel: bool = True
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        variant = "" if self.per_token else "-tensor"
        return f"int8-dynamic{variant}{'' if self.embeddings else '-linear'}"

    @classmethod
    def from_argument(cls, argument: str | None) -> Int8Dynamic:
        variants = set(argument.split("-")) if argument else set()
        if variants - {"linear", "tensor"}:
            raise UsageError(
                f"unknown variant 'int8-dynamic-{argument}'",
                "use 'int8-dynamic', 'int8-dynamic-linear' or 'int8-dynamic-tensor'",
            )
        return cls(embeddings="linear" not in variants, per_token="tensor" not in variants)

    def change(self, model: nn.Module, data: Digested) -> tuple[nn.Module, dict[str, Any]]:
        return self.shape(model, {}), {}

    def shape(self, model: nn.Module, structure: Mapping[str, Any]) -> nn.Module:
        from perfsuite.techniques.quantization.quantize import dynamic

        return dynamic(model, self)


@dataclass(frozen=True)
class Int8Static(Recorded):
    """``int8-static``: as int8-dynamic, with activation ranges fixed beforehand from calibration data.

    ``ranges``: "minmax" takes all that was seen, "percentile" leaves out the outermost
    ``1 - percentile`` of the values, "mse" clips where the mean squared error is least
    (``int8-static-mse`` and so on). Layers other than linear and embedding ones stay in float.
    """

    ranges: Ranges = "minmax"
    percentile: float = 0.9999
    embeddings: bool = True
    per_channel: bool = True
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.ranges not in ("minmax", "percentile", "mse"):
            raise UsageError(f"unknown ranges {self.ranges!r}", "use 'minmax', 'percentile' or 'mse'")
        if not 0.5 < self.percentile <= 1:
            raise UsageError(f"percentile {self.percentile} is not in (0.5, 1]", "use 0.9999, say")

    @property
    def name(self) -> str:
        return "int8-static" if self.ranges == "minmax" else f"int8-static-{self.ranges}"

    @classmethod
    def from_argument(cls, argument: str | None) -> Int8Static:
        ranges: Any = argument or "minmax"
        return cls(ranges)

    def change(self, model: nn.Module, data: Digested) -> tuple[nn.Module, dict[str, Any]]:
        from perfsuite.techniques.quantization.calibration import calibrate
        from perfsuite.techniques.quantization.quantize import static

        grids = calibrate(model, self, data)
        return static(model, self, grids), {}

    def shape(self, model: nn.Module, structure: Mapping[str, Any]) -> nn.Module:
        from perfsuite.techniques.quantization.quantize import static

        return static(model, self, None)


@dataclass(frozen=True)
class WeightOnly(Recorded):
    """``weight-only-4``: linear weights at 2 to 8 bits, grouped and packed; embeddings in int8; activations in float.

    ``weight-only-4-g128`` sets ``group_size``. It makes the file small, and no call faster.
    """

    bits: int = 4
    group_size: int = 64
    embeddings: bool = True
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if type(self.bits) is not int or not 2 <= self.bits <= 8:
            raise UsageError(f"{self.bits} bits are not possible", "use 2 to 8")
        if type(self.group_size) is not int or self.group_size < 1:
            raise UsageError(f"group_size is {self.group_size}", "use at least 1; 32 to 128 are usual")

    @property
    def name(self) -> str:
        suffix = "" if self.group_size == 64 else f"-g{self.group_size}"
        return f"weight-only-{self.bits}{suffix}"

    @classmethod
    def from_argument(cls, argument: str | None) -> WeightOnly:
        bits, _, group = (argument or "4").partition("-g")
        try:
            return cls(int(bits), int(group) if group else 64)
        except ValueError:
            raise UsageError(
                f"technique 'weight-only' does not take {argument!r}", "write 'weight-only-4' or 'weight-only-4-g128'"
            ) from None

    def change(self, model: nn.Module, data: Digested) -> tuple[nn.Module, dict[str, Any]]:
        return self.shape(model, {}), {}

    def shape(self, model: nn.Module, structure: Mapping[str, Any]) -> nn.Module:
        from perfsuite.techniques.quantization.quantize import weight_only

        return weight_only(model, self)
