"""The attention of Hugging Face's ALBERT, which all its layers share (Lan et al. 2019)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from perfsuite.protocols import Architecture
from perfsuite.techniques.pruning.groups import Group, class_is
from perfsuite.techniques.pruning.layouts import separate


def _groups(module: Any) -> Iterator[Group]:
    layers = (module.query, module.key, module.value, module.dense)
    yield separate(module, layers, module.attention_head_size)


ALBERT = Architecture(class_is("transformers", "AlbertAttention"), _groups)
