"""perfsuite's own encoder (perfsuite/models/encoder.py), whose config follows by its own ``sync_config``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from perfsuite.protocols import Architecture
from perfsuite.techniques.pruning.groups import Group, class_is
from perfsuite.techniques.pruning.slices import Columns, Rows

_is_feed_forward = class_is("perfsuite", "FeedForward")


def _groups(module: Any) -> Iterator[Group]:
    if _is_feed_forward(module):
        yield Group("units", (Rows(module.expand),), Columns(module.contract))
        return
    width = module.head_dim
    yield Group(
        "heads",
        (Rows(module.value, width),),
        Columns(module.output, width),
        companions=(Rows(module.query, width), Rows(module.key, width)),
        owner=module,
        attributes={"num_heads": 1},
    )


ENCODER = Architecture(class_is("perfsuite", "SelfAttention", "FeedForward"), _groups)
