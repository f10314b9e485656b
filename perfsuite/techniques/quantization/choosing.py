"""Which layers of a model are quantized, and what a fresh model must be told so that the same are in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import torch
from torch import nn

from perfsuite._compat.torch import own_parameters
from perfsuite.errors import StorageError, TechniqueError
from perfsuite.techniques.attention import split_attention
from perfsuite.techniques.carrying import can_be_replaced
from perfsuite.techniques.common import is_linear, owns_weight
from perfsuite.techniques.experts import split_experts
from perfsuite.techniques.quantization.alike import computes_linear, looks_up_rows
from perfsuite.techniques.quantization.layers import Int8Embedding, StaticInt8Linear
from perfsuite.techniques.quantization.packing import PackedLinear
from perfsuite.techniques.quantization.readable import QuantizedLayer
from perfsuite.techniques.quantization.stored import Kind, is_stored
from perfsuite.techniques.selection import selected
from perfsuite.techniques.writing import written_layers

# Names that our layers need for themselves: their attributes, and what they set.
_OURS = (StaticInt8Linear, Int8Embedding, PackedLinear)
_TAKEN = {name for kind in _OURS for name in dir(kind)} - {*dir(nn.Module), *dir(nn.Linear), *dir(nn.Embedding)} | {
    "codes", "scale", "scales", "like", "input_scale", "input_zero", "per_token", "sharing", "bits", "group_size",
    "_prepared", "place", "is_turned",
}  # fmt: skip


class Layers(msgspec.Struct, frozen=True):
    """What a model records of the choice: names of layers of a class of their own, and of those that stay in float.

    ``split``: names of fused experts that were split into layers; ``stored``: of layers in int8 that compute in float.
    """

    alike: tuple[str, ...] = ()
    in_float: tuple[str, ...] = ()
    split: tuple[str, ...] = ()
    stored: tuple[str, ...] = ()

    @classmethod
    def of(cls, structure: Mapping[str, Any]) -> Layers:
        """Those of a record. Raises StorageError for one that is broken."""
        try:
            return msgspec.convert(dict(structure), type=cls)
        except msgspec.ValidationError as error:
            raise StorageError(
                f"the record of what was quantized is broken: {error}", "save the model again"
            ) from error


class Chosen(dict[nn.Module, str]):
    """The layers to quantize, with their names; and the ``structure`` to be recorded."""

    structure: dict[str, Any]


def prepare(
    model: nn.Module,
    include: Iterable[str],
    exclude: Iterable[str],
    embeddings: bool,
    structure: Mapping[str, Any] | None = None,
    *,
    experts: bool = True,
    stored: tuple[Kind, ...] = (),
) -> Chosen:
    """Split packed attentions, and fused ``experts``, in place; then the layers to quantize, ``stored`` kinds too.

    A weight that also serves a layer that is not to be quantized stays as it is in both: ties are kept. ``structure``
    is what was chosen before, of a model of this shape. Raises TechniqueError if there is nothing to quantize, or the
    model is quantized already.
    """
    found = next((name for name, module in model.named_modules() if isinstance(module, QuantizedLayer)), None)
    if found is not None:
        raise TechniqueError(
            f"the model is quantized already: {found or 'it'!r} holds integers", "quantize the original, once"
        )
    before = None if structure is None else Layers.of(structure)
    split_attention(model)
    split = split_experts(model, None if before is None else before.split) if experts else ()
    names = selected(model, tuple(include), tuple(exclude))
    candidates = {
        module: name
        for name, module in model.named_modules()
        if name in names and _may_be_quantized(module, embeddings, stored)
    }
    layers = msgspec.structs.replace(_decided(model, candidates), split=split) if before is None else before
    chosen = _without_ties(model, _outermost(candidates, layers))
    if not chosen:
        raise TechniqueError(
            "found no float linear or embedding layer to quantize",
            "use a model that has such layers, and do not exclude them all",
        )
    chosen.structure = {key: list(value) for key, value in msgspec.structs.asdict(layers).items() if value}
    return chosen


def is_embedding(module: nn.Module) -> bool:
    """``nn.Embedding`` itself, but for one with max_norm, which writes to the weight at each call."""
    return type(module) is nn.Embedding and owns_weight(module) and module.max_norm is None


def plain_weights(model: nn.Module) -> list[nn.Parameter]:
    """The weights of plain layers, which integers may take the place of; none that a buffer sees, too."""
    seen = {buffer.untyped_storage().data_ptr() for buffer in model.buffers() if buffer.layout is torch.strided}
    plain = (module for module in model.modules() if is_linear(module) or is_embedding(module))
    weights = (own_parameters(module)["weight"] for module in plain)
    return [w for w in weights if w is not None and w.untyped_storage().data_ptr() not in seen]


def _may_be_quantized(module: nn.Module, embeddings: bool, stored: tuple[Kind, ...]) -> bool:
    is_like_linear = is_linear(module) or isinstance(module, nn.Linear)
    is_table = embeddings and isinstance(module, nn.Embedding)
    return is_like_linear or is_table or is_stored(module, stored)


def _decided(model: nn.Module, candidates: Mapping[nn.Module, str]) -> Layers:
    """Which of them are of a class of their own that computes the same, and which cannot be replaced."""
    written = written_layers(model)
    plain = {module for module in candidates if is_linear(module) or is_embedding(module) or is_stored(module)}
    alike = {
        module for module in candidates if module not in plain and (computes_linear(module) or looks_up_rows(module))
    }
    kept = {
        module
        for module, name in candidates.items()
        if module not in plain | alike or name in written or not can_be_replaced(module, _TAKEN)
    }
    return Layers(
        tuple(name for module, name in candidates.items() if module in alike - kept),
        tuple(name for module, name in candidates.items() if module in kept),
        stored=tuple(name for module, name in candidates.items() if is_stored(module) and module not in kept),
    )


def _outermost(candidates: Mapping[nn.Module, str], layers: Layers) -> Chosen:
    """Those that are to be quantized. A layer inside of one that is replaced goes along as it is."""
    named, kept = {*layers.alike, *layers.stored}, {*layers.in_float}
    taken = {
        module: name
        for module, name in candidates.items()
        if name not in kept and (name in named or is_linear(module) or is_embedding(module))
    }
    above = tuple(f"{name}." for name in taken.values() if name)
    return Chosen({module: name for module, name in taken.items() if not name.startswith(above)})


def _without_ties(model: nn.Module, wanted: Chosen) -> Chosen:
    elsewhere = {p for m in model.modules() if m not in wanted for p in own_parameters(m).values() if p is not None}
    return Chosen({module: name for module, name in wanted.items() if elsewhere.isdisjoint(_weights(module))})


def _weights(module: nn.Module) -> set[nn.Parameter]:
    """The one that is called so; or all matrices, of a layer that has several."""
    owned = own_parameters(module)
    weight = owned.get("weight")
    return {weight} if weight is not None else {p for p in owned.values() if p is not None and p.dim() > 1}
