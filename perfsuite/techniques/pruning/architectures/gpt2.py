"""The attention of Hugging Face's GPT-2 (Radford et al. 2019), and of those that copy it: one layer for three."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from perfsuite.protocols import Architecture
from perfsuite.techniques.pruning.groups import Group, class_is
from perfsuite.techniques.pruning.layouts import heads
from perfsuite.techniques.pruning.slices import Columns, Rows, fused

_is_mine = class_is("transformers", "GPT2Attention", "DecisionTransformerGPT2Attention", "ImageGPTAttention")


def _groups(module: Any) -> Iterator[Group]:
    width = module.head_dim
    if module.is_cross_attention:
        queries: Rows = Rows(module.q_attn, width)
        keys, values = fused(module.c_attn, width, width)
    else:
        queries, keys, values = fused(module.c_attn, width, width, width)
    yield heads(module, queries, keys, values, Columns(module.c_proj, width), fields={"n_head": 1})


GPT2 = Architecture(_is_mine, _groups)
