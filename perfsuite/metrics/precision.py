"""In which precision a program multiplies with its weights, whatever was asked for."""

from __future__ import annotations

from typing import Any

from perfsuite.metric import LAYERS, Direction, Exact, Metric, Relation
from perfsuite.units import Unit


def int8_share(subject: Any) -> float:
    """Of the products with weights, how many are computed on int8.

    A layer that a runtime could not fuse is computed in float, in silence, and this falls.
    """
    layers = subject.layers
    return float(layers.get("int8", 0) / sum(layers.values()))


def effective_bits(candidate: Any, original: Any) -> float:
    """The effective number of bits (IEEE Std 1241) of the candidate's outputs, where the original's are the signal.

    A program whose floats are quietly fewer bits than it was given answers with fewer: about 21 are left of float32
    computed in another order, 11 of fp16, 8 of bf16; of equal outputs 49.5 are said, the most that SQNR says.
    """
    return float((candidate.fidelity_to(original)["sqnr"] - _SQNR_OF_NO_BITS) / _SQNR_OF_A_BIT)


_SQNR_OF_NO_BITS, _SQNR_OF_A_BIT = 1.76, 6.02  # dB

INT8_SHARE = Metric("int8_share", Unit.FRACTION, Direction.HIGHER, Exact(int8_share, LAYERS))
EFFECTIVE_BITS = Metric("effective_bits", Unit.NUMBER, Direction.HIGHER, Relation(effective_bits))
