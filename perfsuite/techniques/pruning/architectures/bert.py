"""Hugging Face's BERT, and the families whose layers are built as its are (Devlin et al. 2018).

RoBERTa, ELECTRA, ERNIE, LayoutLM, Splinter and about forty more: queries, keys and values in one module, the layer that
reads them in the one beside it; and the same with the two layers of the feed-forward network.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from perfsuite.protocols import Architecture
from perfsuite.techniques.pruning.groups import Group
from perfsuite.techniques.pruning.layouts import (
    PLAIN_FEED_FORWARD,
    feed_forward,
    has_linear,
    is_of_transformers,
    is_plain_attention,
    separate,
)
from perfsuite.techniques.pruning.reading import follows, reads_only
from perfsuite.techniques.pruning.slices import Rows

_PROJECTIONS = ("query", "key", "value")
_INNER = {
    *_PROJECTIONS, "attention_head_size", "all_head_size", "dropout_prob", "rotary_embeddings", "rotary_value",
    "position_embedding_type",
}  # fmt: skip
_NORMS = {"LayerNorm", "layer_norm", "layernorm", "self_attn_layer_norm", "norm", "ln"}
_OUTPUT = {"dense", *_NORMS, *PLAIN_FEED_FORWARD}
_OUTER = {
    "self",
    "attention",
    "output",
    "is_cross_attention",
    "is_decoder",
    "attention_type",
    *_NORMS,
    *PLAIN_FEED_FORWARD,
}


def _inner(module: nn.Module) -> Any:
    """The module of the projections; None in what is no such attention."""
    children = dict(module.named_children())
    inner, output = children.get("self") or children.get("attention"), children.get("output")
    if inner is None or output is None or not is_of_transformers(module):
        return None
    is_plain = (
        has_linear(inner, *_PROJECTIONS)
        and isinstance(getattr(inner, "attention_head_size", None), int)
        and has_linear(output, "dense")
        and is_plain_attention(inner, _INNER)
        and reads_only(output, _OUTPUT)
        and reads_only(module, _OUTER)
    )
    return inner if is_plain else None


def _is_layer(module: Any) -> bool:
    children = dict(module.named_children())
    first, then = children.get("intermediate"), children.get("output")
    kind: Any = type(module)
    return (
        is_of_transformers(module)
        and first is not None
        and then is not None
        and has_linear(first, "dense")
        and has_linear(then, "dense")
        and reads_only(first, {"dense", *PLAIN_FEED_FORWARD})
        and reads_only(then, _OUTPUT)
        and follows(kind, "intermediate", "output")
    )


def _groups(module: Any) -> Iterator[Group]:
    if _is_layer(module):
        yield feed_forward(module, (Rows(module.intermediate.dense),), module.output.dense)
        return
    owner = _inner(module)
    width = owner.attention_head_size
    yield separate(owner, (owner.query, owner.key, owner.value, module.output.dense), width)


BERT = Architecture(lambda module: _is_layer(module) or _inner(module) is not None, _groups)
