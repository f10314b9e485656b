"""Hugging Face's Llama, and all whose projections are built as its are (Touvron et al. 2023).

Mistral, Qwen, Gemma, Granite, OLMo, Cohere, GLM, ViT, DeiT, BEiT and about a hundred more: known by what their
classes hold and read. Several query heads read one head of keys and values (grouped-query attention, Ainslie et
al. 2023), so the unit is such a head with all that read it. In the gated feed-forward network (SwiGLU, Shazeer 2020)
a unit is the product of a row of the gate and one of the layer beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from perfsuite.protocols import Architecture
from perfsuite.techniques.pruning.groups import Group, Rows, Slice
from perfsuite.techniques.pruning.layouts import (
    PLAIN_ATTENTION,
    feed_forward,
    has_linear,
    is_of_transformers,
    projected,
)
from perfsuite.techniques.pruning.reading import reads_only

_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")
_GATED = ("gate_proj", "up_proj", "down_proj")
_NORMS = ("q_norm", "k_norm", "v_norm", "q_layernorm", "k_layernorm", "query_layernorm", "key_layernorm", "qk_norm")
_SINKS = "sinks"  # what a head may look at instead of a token: a number each
_ATTENTION = {*_PROJECTIONS, *_NORMS, *PLAIN_ATTENTION, _SINKS}
_MLP = {*_GATED, "act_fn", "activation_fn", "act", "activation", "hidden_act", "dropout", "training", "config"}


def _is_attention(module: Any) -> bool:
    return (
        has_linear(module, *_PROJECTIONS)
        and isinstance(getattr(module, "head_dim", None), int)
        and reads_only(module, _ATTENTION)
        and all(_knows_one_head(module, norm) for norm in _NORMS)
    )


def _knows_one_head(module: Any, norm: str) -> bool:
    """Whether a norm, if there is one, normalises each head by itself; some do all heads together."""
    weight = getattr(getattr(module, norm, None), "weight", None)
    return weight is None or weight.numel() == module.head_dim or weight.shape[1:] == (module.head_dim,)


def _is_mlp(module: nn.Module) -> bool:
    return has_linear(module, *_GATED) and reads_only(module, _MLP)


def _groups(module: Any) -> Iterator[Group]:
    if _is_mlp(module):
        yield feed_forward(module, (Rows(module.gate_proj), Rows(module.up_proj)), module.down_proj)
        return
    yield projected(module, module.o_proj, width=module.head_dim, companions=_for_each_head(module))


def _for_each_head(module: Any) -> tuple[Slice, ...]:
    """Numbers that belong to single heads: weights (heads, width) of norms, and sinks (heads,)."""
    keys = module.k_proj.weight.shape[0] // module.head_dim
    owned = [(getattr(module, name), "weight") for name in _NORMS if hasattr(module, name)]
    owned += [(module, _SINKS)] if hasattr(module, _SINKS) else []
    found = ((layer, tensor, getattr(layer, tensor, None)) for layer, tensor in owned)
    return tuple(
        Rows(layer, values.shape[0] // keys, tensor=tensor)
        for layer, tensor, values in found
        if values is not None and (tensor == _SINKS or values.dim() == 2)
    )


LLAMA = Architecture(lambda module: is_of_transformers(module) and (_is_mlp(module) or _is_attention(module)), _groups)
