"""The attention of Hugging Face's Phi-3 (Abdin et al. 2024): queries, keys and values in one layer, with groups."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from perfsuite.protocols import Architecture
from perfsuite.techniques.pruning.groups import Group, class_is
from perfsuite.techniques.pruning.layouts import heads
from perfsuite.techniques.pruning.slices import Columns, fused


def _groups(module: Any) -> Iterator[Group]:
    width, queries = module.head_dim, module.num_key_value_groups * module.head_dim
    query, key, value = fused(module.qkv_proj, queries, width, width)
    yield heads(module, query, key, value, Columns(module.o_proj, queries))


PHI3 = Architecture(class_is("transformers", "Phi3Attention", "Phi4MultimodalAttention"), _groups)
