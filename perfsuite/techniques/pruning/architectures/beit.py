"""The attention of Hugging Face's BEiT (Bao et al. 2021), which may add a bias for each head to its scores.

Each layer may have a table of its own, or all of them one: a head then goes from all layers, or from none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from perfsuite.protocols import Architecture
from perfsuite.techniques.pruning.groups import Group, class_is
from perfsuite.techniques.pruning.layouts import projected
from perfsuite.techniques.pruning.slices import Columns

_is_layer = class_is("transformers", "BeitLayer")
_is_model = class_is("transformers", "BeitModel")


def _is_mine(module: Any) -> bool:
    if _is_layer(module):
        return not _is_shared(module.attention)
    return _is_model(module) and module.config.use_shared_relative_position_bias


def _is_shared(attention: Any) -> bool:
    return bool(attention.config.use_shared_relative_position_bias)


def _groups(module: Any) -> Iterator[Group]:
    if _is_layer(module):
        yield _heads(module.attention, module.relative_position_bias)
        return
    first, *others = (_heads(layer.attention, layer.relative_position_bias) for layer in module.layers)
    table = _table(module.shared_position_bias)
    yield replace(first, companions=(*first.companions, table), tied=tuple(others), name="layers.self")


def _heads(attention: Any, bias: Any) -> Group:
    companions = () if bias is None else (_table(bias),)
    return projected(attention, attention.o_proj, companions=companions)


def _table(bias: Any) -> Columns:
    return Columns(bias, tensor="relative_position_bias_table")


BEIT = Architecture(_is_mine, _groups)
