"""Half precision as a frozen value. Importing this imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from perfsuite.errors import UsageError
from perfsuite.techniques.claims import Claims
from perfsuite.techniques.fidelity import Promise, of_floats
from perfsuite.techniques.naming import Grammar, Words
from perfsuite.techniques.recorded import Recorded, dtype_of

if TYPE_CHECKING:
    from torch import nn

    from perfsuite.techniques.suspects import Suspects

PrecisionName = Literal["bf16", "fp16"]
_SIGNIFICANDS = {"bf16": 8, "bfloat16": 8, "fp16": 11, "float16": 11}  # bits, with the one that is not stored
_AUTOCAST = Words("autocast", {"autocast": True})


@dataclass(frozen=True)
class Precision(Recorded):
    """``bf16`` or ``fp16``: floating-point weights are cast; inputs are cast on the way in, outputs back.

    ``keep_fp32``: layers by name, pattern or type that stay in fp32. ``autocast``
    (``bf16-autocast``): weights stay as they are, and torch casts what is worth it at each call.
    """

    dtype: PrecisionName
    autocast: bool = False
    keep_fp32: tuple[str, ...] = ()

    lets_be = "keep_fp32"
    keeps_adapters = True

    def __post_init__(self) -> None:
        if self.dtype not in ("bf16", "fp16"):
            raise UsageError(f"unknown precision {self.dtype!r}", "use 'bf16' or 'fp16'")
        if self.autocast and self.keep_fp32:
            raise UsageError("autocast decides by itself what stays in fp32", "leave out keep_fp32, or autocast")

    @property
    def name(self) -> str:
        return Grammar(self.dtype, _AUTOCAST).write(self)

    @property
    def changes_layers(self) -> bool:
        return not self.autocast

    @classmethod
    def bf16(cls, argument: str | None) -> Precision:
        """What the argument of a name that begins with "bf16" says. Raises UsageError for another than "autocast"."""
        return cls("bf16", **Grammar("bf16", _AUTOCAST).read(argument))

    @classmethod
    def fp16(cls, argument: str | None) -> Precision:
        """The same for "fp16"."""
        return cls("fp16", **Grammar("fp16", _AUTOCAST).read(argument))

    @property
    def claims(self) -> Claims:
        return Claims() if self.autocast else Claims(bits=16)

    @property
    def promise(self) -> Promise:
        return self._promise(_SIGNIFICANDS[self.dtype])

    def promise_for(self, model: nn.Module) -> Promise:
        """A model in bf16 has no more bits to follow than those."""
        bits = _SIGNIFICANDS[self.dtype]
        return self._promise(min(bits, _SIGNIFICANDS.get(dtype_of(model), bits)))

    def _promise(self, bits: int) -> Promise:
        keeps = f"cast with {self.dtype!r} and keep_fp32=(...)" if self.autocast else "keep_fp32=(...)"
        return of_floats(bits, f"leave the most sensitive layers in fp32 ({keeps})")

    def suspects(self, model: nn.Module, changed: nn.Module) -> Suspects:
        from perfsuite.techniques.common import copy_finite
        from perfsuite.techniques.precision.keepable import keepable
        from perfsuite.techniques.suspects import Cast

        def keeping(names: Sequence[str]) -> nn.Module:
            return replace(self, keep_fp32=(*self.keep_fp32, *names)).shape(copy_finite(model), {})

        if self.autocast:
            return Cast(model, changed, keeping, lambda _: [], f"use {self.dtype!r}, which can leave layers in fp32")
        return Cast(model, changed, keeping, lambda inputs: keepable(model, self.keep_fp32, inputs))

    def shape(self, model: nn.Module, structure: Mapping[str, Any]) -> nn.Module:
        if self.autocast:
            from perfsuite.techniques.precision.autocast import MixedPrecisionWrapper

            return MixedPrecisionWrapper(model, self.dtype)
        from perfsuite.techniques.precision.cast import cast

        return cast(model, self.dtype, self.keep_fp32)
