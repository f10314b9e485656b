"""torch's ``nn.TransformerEncoderLayer`` and ``nn.TransformerDecoderLayer``, with their attention split into layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch.nn.functional as F
from torch import nn

from perfsuite.protocols import Architecture
from perfsuite.techniques.attention import SplitAttention
from perfsuite.techniques.pruning.groups import Group
from perfsuite.techniques.pruning.slices import Columns, Rows


def _is_mine(module: nn.Module) -> bool:
    return type(module) in (SplitAttention, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)


def _groups(module: Any) -> Iterator[Group]:
    if type(module) is SplitAttention:
        yield _heads(module)
    elif isinstance(module.activation, nn.Module) or module.activation in (F.relu, F.gelu):
        # Any function may stand there: one that looks at several units at a time keeps them all.
        yield Group("units", (Rows(module.linear1),), Columns(module.linear2))


def _heads(module: SplitAttention) -> Group:
    width = module.head_dim
    return Group(
        "heads",
        (Rows(module.value, width),),
        Columns(module.out_proj, width),
        companions=(Rows(module.query, width), Rows(module.key, width)),
        owner=module,
        attributes={"num_heads": 1},
    )


TORCH_TRANSFORMER = Architecture(_is_mine, _groups)
