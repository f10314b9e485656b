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
from perfsuite.techniques.pruning.groups import Group
from perfsuite.techniques.pruning.layouts import (
    PLAIN_FEED_FORWARD,
    feed_forward,
    has_linear,
    is_of_transformers,
    is_plain_attention,
    projected,
)
from perfsuite.techniques.pruning.reading import reads_only
from perfsuite.techniques.pruning.slices import Rows

_PROJECTIONS = ("q_proj", "k_proj", "v_proj")
_OUTPUTS = ("o_proj", "dense")
_GATED = ("gate_proj", "up_proj", "down_proj")
_OTHERS = ("BeitAttention",)  # which gets a bias for each head from outside; its own file knows


def _output(module: Any) -> str:
    """The name of the layer that reads the heads; empty for what is no such attention."""
    if type(module).__name__ in _OTHERS or not isinstance(getattr(module, "head_dim", None), int):
        return ""
    return next((name for name in _OUTPUTS if _is_attention(module, name)), "")


def _is_attention(module: nn.Module, output: str) -> bool:
    names = (*_PROJECTIONS, output)
    return has_linear(module, *names) and is_plain_attention(module, {*names, "config.clip_qkv"})


def _is_mlp(module: nn.Module) -> bool:
    return has_linear(module, *_GATED) and reads_only(module, {*_GATED, *PLAIN_FEED_FORWARD})


def _groups(module: Any) -> Iterator[Group]:
    if _is_mlp(module):
        yield feed_forward(module, (Rows(module.gate_proj), Rows(module.up_proj)), module.down_proj)
    else:
        yield projected(module, getattr(module, _output(module)))


LLAMA = Architecture(lambda module: is_of_transformers(module) and (_is_mlp(module) or bool(_output(module))), _groups)
