"""In which precision a program multiplies with its weights, whatever was asked for."""

from __future__ import annotations

from typing import Any

from perfsuite.metric import LAYERS, Direction, Exact, Metric
from perfsuite.units import Unit


def int8_share(subject: Any) -> float:
    """Of the products with weights, how many are computed on int8.

    A layer that a runtime could not fuse is computed in float, in silence, and this falls.
    """
    layers = subject.layers
    return float(layers.get("int8", 0) / sum(layers.values()))


INT8_SHARE = Metric("int8_share", Unit.FRACTION, Direction.HIGHER, Exact(int8_share, LAYERS))
