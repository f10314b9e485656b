"""The attention of Hugging Face's ModernBERT (Warner et al. 2024): one layer for queries, keys and values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from perfsuite.protocols import Architecture
from perfsuite.techniques.pruning.groups import Group, class_is
from perfsuite.techniques.pruning.layouts import heads
from perfsuite.techniques.pruning.slices import Columns, fused


def _groups(module: Any) -> Iterator[Group]:
    width = module.head_dim
    queries, keys, values = fused(module.Wqkv, width, width, width)
    yield heads(module, queries, keys, values, Columns(module.Wo, width))


MODERNBERT = Architecture(class_is("transformers", "ModernBertAttention"), _groups)
