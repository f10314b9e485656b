"""Hugging Face's BERT, and the families whose layers are built as its are (Devlin et al. 2018)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from perfsuite.protocols import Architecture
from perfsuite.techniques.pruning.groups import Columns, Group, Rows, class_is

_FAMILIES = ("Bert", "Roberta", "XLMRoberta", "Camembert", "Electra")
_is_layer = class_is("transformers", *(f"{family}Layer" for family in _FAMILIES))
_is_attention = class_is("transformers", *(f"{family}Attention" for family in _FAMILIES))


def _groups(module: Any) -> Iterator[Group]:
    if _is_layer(module):
        expand, contract = module.intermediate.dense, module.output.dense
        yield Group("units", (Rows(expand),), Columns(contract), config={"intermediate_size": 1})
        return
    owner = module.self
    width = owner.attention_head_size
    yield Group(
        "heads",
        (Rows(owner.value, width),),
        Columns(module.output.dense, width),
        companions=(Rows(owner.query, width), Rows(owner.key, width)),
        owner=owner,
        attributes={"num_attention_heads": 1, "all_head_size": width},
        config={"num_attention_heads": 1},
    )


BERT = Architecture(lambda module: _is_layer(module) or _is_attention(module), _groups)
