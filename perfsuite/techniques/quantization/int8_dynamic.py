"""Int8 weights with activations quantized on the fly, as a frozen value. Importing this imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perfsuite.techniques.claims import Claims
from perfsuite.techniques.fidelity import WITH_ACTIVATIONS, Promise
from perfsuite.techniques.naming import Grammar, Named, Words
from perfsuite.techniques.recorded import Digested, Recorded

if TYPE_CHECKING:
    from torch import Tensor, nn

    from perfsuite.techniques.quantization.choosing import Chosen


@dataclass(frozen=True)
class Int8Dynamic(Named, Recorded):
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

    grammar = Grammar("int8-dynamic", Words("per_token", {"tensor": False}), Words("embeddings", {"linear": False}))
    claims = Claims(bits=8)

    def reads(self, model: nn.Module) -> Iterable[Tensor]:
        from perfsuite.techniques.quantization.choosing import plain_weights

        return plain_weights(model)

    @property
    def promise(self) -> Promise:
        return WITH_ACTIVATIONS

    def change(self, model: nn.Module, data: Digested) -> tuple[nn.Module, dict[str, Any]]:
        return self._converted(model, None)

    def shape(self, model: nn.Module, structure: Mapping[str, Any]) -> nn.Module:
        return self._converted(model, structure)[0]

    def _converted(self, model: nn.Module, structure: Mapping[str, Any] | None) -> tuple[nn.Module, dict[str, Any]]:
        """The model, and what was chosen in it; as the structure says, where there is one."""
        from perfsuite.techniques.quantization.layers import Int8Linear, Quantized
        from perfsuite.techniques.quantization.quantize import to_int8

        def linear(quantized: Quantized, bias: nn.Parameter | None, name: str) -> Int8Linear:
            return Int8Linear(quantized, bias, per_token=self.per_token)

        chosen = self.chosen(model, structure)
        return to_int8(model, chosen, linear, Int8Linear, per_channel=self.per_channel), chosen.structure

    def chosen(self, model: nn.Module, structure: Mapping[str, Any] | None = None) -> Chosen:
        """What it quantizes; of a structure, what was chosen before. Fused experts are split, in place."""
        from perfsuite.techniques.quantization.choosing import prepare
        from perfsuite.techniques.quantization.stored import BAG, RECURRENT

        kinds = (RECURRENT, BAG) if self.embeddings else (RECURRENT,)
        return prepare(model, self.include, self.exclude, self.embeddings, structure, stored=kinds)
