"""Hugging Face's DistilBERT (Sanh et al. 2019)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from perfsuite.protocols import Architecture
from perfsuite.techniques.pruning.groups import Group, class_is
from perfsuite.techniques.pruning.slices import Columns, Rows

_is_feed_forward = class_is("transformers", "FFN")


def _groups(module: Any) -> Iterator[Group]:
    if _is_feed_forward(module):
        yield Group("units", (Rows(module.lin1),), Columns(module.lin2), config={"hidden_dim": 1})
        return
    width = module.attention_head_size
    yield Group(
        "heads",
        (Rows(module.v_lin, width),),
        Columns(module.out_lin, width),
        companions=(Rows(module.q_lin, width), Rows(module.k_lin, width)),
        owner=module,
        attributes={"n_heads": 1},
        config={"num_attention_heads": 1},
    )


DISTILBERT = Architecture(class_is("transformers", "DistilBertSelfAttention", "FFN"), _groups)
