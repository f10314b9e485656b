"""What is counted in the file that a model is saved to."""

from __future__ import annotations

from typing import Any

from perfsuite.metric import FILES, WEIGHTS, Direction, Exact, Metric, Relation
from perfsuite.units import Unit


def compression(candidate: Any, original: Any) -> float | None:
    """Original bytes / new bytes."""
    before, after = original.size_bytes, candidate.size_bytes
    return before / after if before and after else None


SIZE = Metric("size", Unit.BYTES, Direction.LOWER, Exact(lambda subject: subject.size_bytes, FILES))
PARAMETERS = Metric("parameters", Unit.COUNT, Direction.LOWER, Exact(lambda subject: subject.stored.elements, WEIGHTS))
NONZEROS = Metric("nonzeros", Unit.COUNT, Direction.LOWER, Exact(lambda subject: subject.stored.nonzeros, WEIGHTS))
SPARSITY = Metric("sparsity", Unit.FRACTION, Direction.HIGHER, Exact(lambda subject: subject.stored.sparsity, WEIGHTS))
COMPRESSION = Metric("compression", Unit.RATIO, Direction.HIGHER, Relation(compression, FILES))
