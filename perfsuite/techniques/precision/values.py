"""Half precision as a frozen value. Importing this imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from perfsuite.errors import UsageError
from perfsuite.techniques.recorded import Digested, Recorded

if TYPE_CHECKING:
    from torch import nn

PrecisionName = Literal["bf16", "fp16"]


@dataclass(frozen=True)
class Precision(Recorded):
    """``bf16`` or ``fp16``: floating-point weights are cast; inputs are cast on the way in, outputs back.

    ``keep_fp32``: layers by name, pattern or type that stay in fp32. ``autocast``
    (``bf16-autocast``): weights stay as they are, and torch casts what is worth it at each call.
    """

    dtype: PrecisionName
    autocast: bool = False
    keep_fp32: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.dtype not in ("bf16", "fp16"):
            raise UsageError(f"unknown precision {self.dtype!r}", "use 'bf16' or 'fp16'")
        if self.autocast and self.keep_fp32:
            raise UsageError("autocast decides by itself what stays in fp32", "leave out keep_fp32, or autocast")

    @property
    def name(self) -> str:
        return f"{self.dtype}-autocast" if self.autocast else self.dtype

    def change(self, model: nn.Module, data: Digested) -> tuple[nn.Module, dict[str, Any]]:
        return self.shape(model, {}), {}

    def shape(self, model: nn.Module, structure: Mapping[str, Any]) -> nn.Module:
        if self.autocast:
            from perfsuite.techniques.precision.autocast import MixedPrecisionWrapper

            return MixedPrecisionWrapper(model, self.dtype)
        from perfsuite.techniques.precision.cast import cast

        return cast(model, self.dtype, self.keep_fp32)


def bf16_from_argument(argument: str | None) -> Precision:
    return _from_argument("bf16", argument)


def fp16_from_argument(argument: str | None) -> Precision:
    return _from_argument("fp16", argument)


def _from_argument(dtype: PrecisionName, argument: str | None) -> Precision:
    if argument not in (None, "autocast"):
        raise UsageError(f"technique {dtype!r} does not take {argument!r}", f"write '{dtype}' or '{dtype}-autocast'")
    return Precision(dtype, autocast=argument == "autocast")
