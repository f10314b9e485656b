"""The attention of Hugging Face's ALBERT, which all its layers share (Lan et al. 2019)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from perfsuite.protocols import Architecture
from perfsuite.techniques.pruning.groups import Group, class_is
from perfsuite.techniques.pruning.layouts import heads
from perfsuite.techniques.pruning.slices import Columns, Rows


def _groups(module: Any) -> Iterator[Group]:
    width = module.attention_head_size
    yield heads(
        module,
        Rows(module.query, width),
        Rows(module.key, width),
        Rows(module.value, width),
        Columns(module.dense, width),
    )


ALBERT = Architecture(class_is("transformers", "AlbertAttention"), _groups)
