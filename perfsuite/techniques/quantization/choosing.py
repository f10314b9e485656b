"""Which layers of a model are quantized, and what a fresh model must be told so that the same are in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
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
from perfsuite.techniques.quantization.alike import computes_linear, is_kernel, looks_up_rows, reads_kernel
from perfsuite.techniques.quantization.convolution import StaticInt8Convolution, pays_on_integers
from perfsuite.techniques.quantization.layers import Int8Embedding, StaticInt8Linear
from perfsuite.techniques.quantization.packing import PackedLinear
from perfsuite.techniques.quantization.parameters import can_be_stored, is_quantized
from perfsuite.techniques.quantization.steering import routers
from perfsuite.techniques.quantization.stored import Kind, is_stored
from perfsuite.techniques.selection import selected
from perfsuite.techniques.writing import written_layers

# Names that our layers need for themselves: their attributes, and what they set.
_OURS = (StaticInt8Linear, Int8Embedding, PackedLinear, StaticInt8Convolution)
_TAKEN = {name for kind in _OURS for name in dir(kind)} - {*dir(nn.Module), *dir(nn.Linear), *dir(nn.Embedding)} | {
    "codes", "scale", "scales", "like", "input_scale", "input_zero", "per_token", "sharing", "bits", "group_size",
    "_prepared", "place", "is_turned", "shape", "kernel_shape", "pads", "pad_mode", "call", "per_example",
}  # fmt: skip


class Layers(msgspec.Struct, frozen=True):
    """What a model records of the choice: names of layers of a class of their own, and of those that stay in float.

    ``split``: names of fused experts that were split into layers; ``stored``: of layers in int8 that compute in float;
    ``convolutions``: of those that compute on int8; ``parameters``: of parameters in int8 of modules that stay.
    """

    alike: tuple[str, ...] = ()
    in_float: tuple[str, ...] = ()
    split: tuple[str, ...] = ()
    stored: tuple[str, ...] = ()
    convolutions: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()

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
    """The layers to quantize, with their names; and what is to be recorded of the choice."""

    layers: Layers

    @property
    def structure(self) -> dict[str, Any]:
        """As a record holds it."""
        return {key: list(value) for key, value in msgspec.structs.asdict(self.layers).items() if value}

    @property
    def on_integers(self) -> dict[nn.Module, str]:
        """Those that multiply integers; embeddings, and what is stored alone, do not."""
        stored = {*self.layers.stored}
        return {
            module: name for module, name in self.items() if not isinstance(module, nn.Embedding) and name not in stored
        }


@dataclass(frozen=True)
class Wanted:
    """What may be quantized beside linear layers: ``stored``: kinds of layers that compute in float then.

    ``embeddings``; fused ``experts``, which are split in place; ``convolutions``: whether those compute on integers
    where that pays.
    """

    stored: tuple[Kind, ...]
    embeddings: bool = True
    experts: bool = True
    convolutions: bool = False


def prepare(
    model: nn.Module,
    include: Iterable[str],
    exclude: Iterable[str],
    wanted: Wanted,
    structure: Mapping[str, Any] | None = None,
) -> Chosen:
    """Split packed attentions, and fused experts, in place; then what is to be quantized of what is ``wanted``.

    A weight that also serves a layer that is not to be quantized stays as it is in both: ties are kept. ``structure``
    is what was chosen before, of a model of this shape. Raises TechniqueError if there is nothing to quantize, or the
    model is quantized already.
    """
    _check_is_float(model)
    before = None if structure is None else Layers.of(structure)
    split_attention(model)
    split = split_experts(model, None if before is None else before.split) if wanted.experts else ()
    names = selected(model, tuple(include), tuple(exclude))
    candidates = {
        module: name for name, module in model.named_modules() if name in names and _may_be_quantized(module, wanted)
    }
    written = written_layers(model)
    layers = before or _decided(candidates, routers(model, candidates), written, wanted)
    chosen = _without_ties(model, _outermost(candidates, layers))
    if before is None:
        layers = msgspec.structs.replace(layers, split=split, parameters=can_be_stored(model, names - written))
    chosen.layers = layers
    if not chosen and not layers.parameters:
        raise TechniqueError(
            "found no float weights to quantize", "use a model that has such layers, and do not exclude them all"
        )
    return chosen


def _check_is_float(model: nn.Module) -> None:
    found = next((name for name, module in model.named_modules() if is_quantized(module)), None)
    if found is not None:
        raise TechniqueError(
            f"the model is quantized already: {found or 'it'!r} holds integers", "quantize the original, once"
        )


def is_embedding(module: nn.Module) -> bool:
    """``nn.Embedding`` itself, but for one with max_norm, which writes to the weight at each call."""
    return type(module) is nn.Embedding and owns_weight(module) and module.max_norm is None


def plain_weights(model: nn.Module) -> list[nn.Parameter]:
    """The weights of plain layers, which integers may take the place of; none that a buffer sees, too."""
    seen = {buffer.untyped_storage().data_ptr() for buffer in model.buffers() if buffer.layout is torch.strided}
    plain = (module for module in model.modules() if is_linear(module) or is_embedding(module))
    weights = (own_parameters(module)["weight"] for module in plain)
    return [w for w in weights if w is not None and w.untyped_storage().data_ptr() not in seen]


def _may_be_quantized(module: nn.Module, wanted: Wanted) -> bool:
    is_like_linear = is_linear(module) or isinstance(module, nn.Linear)
    is_table = wanted.embeddings and isinstance(module, nn.Embedding)
    return is_like_linear or is_table or is_stored(module, wanted.stored)


def _decided(
    candidates: Mapping[nn.Module, str], steering: Set[nn.Module], written: Set[str], wanted: Wanted
) -> Layers:
    """Which of them are of a class of their own that computes the same, and which stay: they steer, are written to by
    the forward pass, or cannot be replaced.
    """
    stored = {module for module in candidates if is_stored(module)}
    plain = {module for module in candidates if is_linear(module) or is_embedding(module)} | {
        module for module in stored if not is_kernel(module) or reads_kernel(module)
    }
    alike = {
        module
        for module in candidates
        if module not in plain | stored and (computes_linear(module) or looks_up_rows(module))
    }
    cannot = {module for module in candidates if module not in plain | alike or not can_be_replaced(module, _TAKEN)}
    kept = cannot | steering | {module for module, name in candidates.items() if name in written}
    on_integers = {module for module in stored if wanted.convolutions and pays_on_integers(module)}

    def names(modules: Set[nn.Module]) -> tuple[str, ...]:
        return tuple(name for module, name in candidates.items() if module in modules)

    return Layers(
        names(alike - kept), names(kept), stored=names(stored - kept - on_integers),
        convolutions=names(on_integers - kept),
    )  # fmt: skip


def _outermost(candidates: Mapping[nn.Module, str], layers: Layers) -> Chosen:
    """Those that are to be quantized. A layer inside of one that is replaced goes along as it is."""
    named, kept = {*layers.alike, *layers.stored, *layers.convolutions}, {*layers.in_float}
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
