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
    """``int8-dynamic``: weights in int8 per channel, and activations quantized on the fly for products of integers.

    Linear layers compute on integers, and convolutions where that pays. Embeddings, recurrent layers and all other
    convolutions are stored in int8, and compute in float. ``per_token=False`` (``int8-dynamic-tensor``): one scale for
    all activations of a call, where else each token has one, or each example of a convolution.
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
        from perfsuite.techniques.quantization.makers import OnTheFly
        from perfsuite.techniques.quantization.quantize import to_int8

        chosen = self.chosen(model, structure)
        return to_int8(model, chosen, OnTheFly(self.per_token), per_channel=self.per_channel), chosen.structure

    def chosen(self, model: nn.Module, structure: Mapping[str, Any] | None = None) -> Chosen:
        """What it quantizes; of a structure, what was chosen before. Fused experts are split, in place."""
        from perfsuite.techniques.quantization.choosing import Wanted, prepare
        from perfsuite.techniques.quantization.stored import kinds

        wanted = Wanted(kinds(bags=self.embeddings), self.embeddings, convolutions=True)
        return prepare(model, self.include, self.exclude, wanted, structure)
