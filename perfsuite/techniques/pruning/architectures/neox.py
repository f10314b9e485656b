"""The attention of Hugging Face's GPT-NeoX: a head's query, key and value lie together in one layer.

So they do in BLOOM, whose heads have to stay: how far each one looks follows from its place (ALiBi, Press et al. 2021).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from perfsuite.protocols import Architecture
from perfsuite.techniques.pruning.groups import Group, class_is
from perfsuite.techniques.pruning.layouts import said
from perfsuite.techniques.pruning.slices import Columns, Rows

_FIELDS = ("num_attention_heads",)
_is_mine = class_is("transformers", "GPTNeoXAttention", "GPTNeoXJapaneseAttention")


def _groups(module: Any) -> Iterator[Group]:
    width = module.head_size
    count = module.query_key_value.weight.shape[0] // (3 * width)
    yield Group(
        "heads",
        (Rows(module.query_key_value, 3 * width),),
        Columns(module.dense, width),
        owner=module,
        attributes=said(module, {"num_heads": 1, "num_attention_heads": 1}, count),
        config=dict.fromkeys(_FIELDS, 1),
    )


NEOX = Architecture(_is_mine, _groups)
