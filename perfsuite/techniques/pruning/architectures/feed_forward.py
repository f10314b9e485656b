"""Feed-forward networks of transformers' models: two layers with an activation between, plain or with a gate.

They have many names and one layout. One that is a module of its own is known by what it reads; one that a whole layer
of a model computes, by the lines that hand what the first layer gives to the second.
"""

from __future__ import annotations

import re
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
)
from perfsuite.techniques.pruning.reading import follows, reads_only
from perfsuite.techniques.pruning.slices import Columns, Rows, fused
from perfsuite.techniques.source import source_of

_PLAIN = (
    ("fc1", "fc2"), ("lin1", "lin2"), ("linear1", "linear2"), ("c_fc", "c_proj"), ("wi", "wo"), ("ffn", "ffn_output"),
    ("up_proj", "down_proj"), ("dense_h_to_4h", "dense_4h_to_h"), ("intermediate_dense", "output_dense"),
    ("fc_in", "fc_out"),
)  # fmt: skip
_GATED = (("wi_0", "wi_1", "wo"), ("w1", "w3", "w2"))
_HALVES = (("gate_up_proj", "down_proj"), ("Wi", "Wo"), ("weights_in", "weights_out"), ("fc1", "fc2"))
_OTHERS = ("FFN",)  # DistilBERT's, which its own file knows


def _groups(module: Any) -> Iterator[Group]:
    names = _names(module)
    *first, last = (getattr(module, name) for name in names)
    rows = fused(first[0], 1, 1) if _is_halved(module, names) else tuple(Rows(layer) for layer in first)
    yield feed_forward(module, rows, last)


def _names(module: nn.Module) -> tuple[str, ...]:
    """The names of the layers; none if the module computes anything else with them."""
    if not is_of_transformers(module) or type(module).__name__ in _OTHERS:
        return ()
    kind: Any = type(module)
    for names in (*_PLAIN, *_GATED, *_HALVES):
        if has_linear(module, *names):
            alone = reads_only(module, {*names, *PLAIN_FEED_FORWARD})
            if _fits(module, names) and (alone or (names in _PLAIN and follows(kind, *names))):
                return names
    return ()


def _fits(module: Any, names: tuple[str, ...]) -> bool:
    """Whether each unit that the first layers compute is one that the last one reads, or gate and value of one."""
    *first, last = (Columns(getattr(module, name)) for name in names)
    whole = all(Rows(part.layer).features == last.features for part in first)
    return whole if names not in _HALVES or whole else _is_halved(module, names)


def _is_halved(module: Any, names: tuple[str, ...]) -> bool:
    """Whether one layer computes gates, and then values (GLU, Dauphin et al. 2016)."""
    kind: Any = type(module)
    first, last = Rows(getattr(module, names[0])), Columns(getattr(module, names[-1]))
    in_halves = re.search(r"chunk\(2, dim=-1\)|chunk\(2, -1\)", source_of(kind, "forward"))
    return names in _HALVES and first.features == 2 * last.features and bool(in_halves)


FEED_FORWARD = Architecture(lambda module: bool(_names(module)), _groups)
