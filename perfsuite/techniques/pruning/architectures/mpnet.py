"""The attention of Hugging Face's MPNet (Song et al. 2020): all layers add the same bias for each head."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from perfsuite.protocols import Architecture
from perfsuite.techniques.pruning.groups import Group, class_is
from perfsuite.techniques.pruning.layouts import separate
from perfsuite.techniques.pruning.slices import Columns


def _groups(encoder: Any) -> Iterator[Group]:
    first, *others = (_heads(layer.attention.attn) for layer in encoder.layer)
    bias = Columns(encoder.relative_attention_bias)
    yield replace(first, companions=(*first.companions, bias), tied=tuple(others), name="layer.self")


def _heads(attention: Any) -> Group:
    return separate(attention, (attention.q, attention.k, attention.v, attention.o), attention.attention_head_size)


MPNET = Architecture(class_is("transformers", "MPNetEncoder"), _groups)
