"""The attention of Hugging Face's Swin (Liu et al. 2021), whose windows have a table with a column for each head."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from perfsuite.protocols import Architecture
from perfsuite.techniques.pruning.groups import Group, class_is
from perfsuite.techniques.pruning.layouts import projected
from perfsuite.techniques.pruning.slices import Columns


def _groups(module: Any) -> Iterator[Group]:
    """The config has a number of heads for each stage, of which the record tells."""
    table = Columns(module.relative_position_bias, tensor="relative_position_bias_table")
    yield projected(module, module.o_proj, companions=(table,), fields={"num_heads": 1})


SWIN = Architecture(class_is("transformers", "SwinAttention"), _groups)
