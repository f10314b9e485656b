"""Packed weights of 2 to 8 bits, as a frozen value. Importing this imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perfsuite.errors import UsageError
from perfsuite.techniques.claims import Claims
from perfsuite.techniques.fidelity import Promise, of_weights
from perfsuite.techniques.naming import Count, Grammar, Named
from perfsuite.techniques.recorded import Digested, Recorded

if TYPE_CHECKING:
    from torch import Tensor, nn

    from perfsuite.techniques.quantization.choosing import Chosen


@dataclass(frozen=True)
class WeightOnly(Named, Recorded):
    """``weight-only-4``: linear weights at 2 to 8 bits, grouped and packed; activations in float.

    Embeddings, convolutions, recurrent layers and other parameters are in int8. ``weight-only-4-g128`` sets
    ``group_size``. It makes the file small, and no call faster.
    """

    bits: int = 4
    group_size: int = 64
    embeddings: bool = True
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    lets_be = "exclude"
    grammar = Grammar("weight-only", Count("bits", example="4"), Count("group_size", example="128", prefix="g"))

    def __post_init__(self) -> None:
        if type(self.bits) is not int or not 2 <= self.bits <= 8:
            raise UsageError(f"{self.bits} bits are not possible", "use 2 to 8")
        if type(self.group_size) is not int or self.group_size < 1:
            raise UsageError(f"group_size is {self.group_size}", "use at least 1; 32 to 128 are usual")

    @property
    def claims(self) -> Claims:
        return Claims(bits=self.bits)

    def reads(self, model: nn.Module) -> Iterable[Tensor]:
        from perfsuite.techniques.quantization.choosing import plain_weights

        return plain_weights(model)

    @property
    def promise(self) -> Promise | None:
        return of_weights(self.bits)

    def change(self, model: nn.Module, data: Digested) -> tuple[nn.Module, dict[str, Any]]:
        return self._converted(model, None)

    def shape(self, model: nn.Module, structure: Mapping[str, Any]) -> nn.Module:
        return self._converted(model, structure)[0]

    def _converted(self, model: nn.Module, structure: Mapping[str, Any] | None) -> tuple[nn.Module, dict[str, Any]]:
        """The model, and what was chosen in it; as the structure says, where there is one."""
        from perfsuite.techniques.quantization.quantize import to_packed

        chosen = self.chosen(model, structure)
        return to_packed(model, chosen, self.bits, self.group_size), chosen.structure

    def chosen(self, model: nn.Module, structure: Mapping[str, Any] | None = None) -> Chosen:
        """What it quantizes; of a structure, what was chosen before. Fused experts are split, in place."""
        from perfsuite.techniques.quantization.choosing import Wanted, prepare
        from perfsuite.techniques.quantization.stored import kinds

        wanted = Wanted(kinds(bags=self.embeddings), self.embeddings)
        return prepare(model, self.include, self.exclude, wanted, structure)
