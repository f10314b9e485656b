"""The attention of Hugging Face's T5 (Raffel et al. 2019), and of those that copy it: mT5, UMT5, Pop2Piano.

The first layer of a stack computes a bias for each head and pair of positions, which all layers add to their scores. So
a head goes from all of them, or from none; those that look at the encoder are free. UMT5 has a bias in each layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from torch import nn

from perfsuite.protocols import Architecture
from perfsuite.techniques.pruning.groups import Group, class_is
from perfsuite.techniques.pruning.layouts import separate
from perfsuite.techniques.pruning.slices import Columns

_FAMILIES = ("T5", "MT5", "Pop2Piano")
_is_stack = class_is("transformers", *(f"{family}Stack" for family in _FAMILIES))
_is_cross = class_is("transformers", *(f"{family}LayerCrossAttention" for family in _FAMILIES))
_has_own_bias = class_is("transformers", "UMT5Attention")


def _groups(module: Any) -> Iterator[Group]:
    if _is_cross(module):
        yield _heads(module.EncDecAttention)
    elif _is_stack(module):
        first, *others = (_heads(block.layer[0].SelfAttention) for block in module.block)
        yield replace(first, tied=tuple(others), name="block.self")
    else:
        yield _heads(module)


def _heads(attention: Any) -> Group:
    layers = (attention.q, attention.k, attention.v, attention.o)
    table = getattr(attention, "relative_attention_bias", None)
    biases = (Columns(table),) if isinstance(table, nn.Embedding) else ()
    return separate(attention, layers, attention.key_value_proj_dim, companions=biases, fields={"num_heads": 1})


T5 = Architecture(lambda module: _is_stack(module) or _is_cross(module) or _has_own_bias(module), _groups)
