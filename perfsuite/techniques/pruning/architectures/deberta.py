"""The attention of Hugging Face's DeBERTa, 1 to 3 (He et al. 2020): positions have projections of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from perfsuite.protocols import Architecture
from perfsuite.techniques.pruning.groups import Group, class_is
from perfsuite.techniques.pruning.layouts import heads, said
from perfsuite.techniques.pruning.slices import Columns, Rows

_POSITIONS = ("pos_proj", "pos_q_proj", "pos_key_proj", "pos_query_proj")
_is_attention = class_is("transformers", "DebertaAttention", "DebertaV2Attention")


def _is_mine(module: Any) -> bool:
    """All but those whose heads are mixed with one another ("talking heads")."""
    return _is_attention(module) and getattr(module.self, "head_logits_proj", None) is None


def _groups(module: Any) -> Iterator[Group]:
    owner, output = module.self, module.output.dense
    width = owner.attention_head_size
    positions = tuple(
        Rows(getattr(owner, name), width) for name in _POSITIONS if isinstance(getattr(owner, name, None), nn.Module)
    )
    if not hasattr(owner, "in_proj"):
        queries, keys, values = (Rows(layer, width) for layer in (owner.query_proj, owner.key_proj, owner.value_proj))
        yield heads(owner, queries, keys, values, Columns(output, width), companions=positions)
        return
    biases = (Rows(owner, width, tensor="q_bias"), Rows(owner, width, tensor="v_bias"))
    yield Group(
        "heads",
        (Rows(owner.in_proj, 3 * width),),
        Columns(output, width),
        companions=(*positions, *biases),
        owner=owner,
        attributes=said(owner, {"num_attention_heads": 1, "all_head_size": width}, len(owner.q_bias) // width),
        config={"num_attention_heads": 1},
    )


DEBERTA = Architecture(_is_mine, _groups)
