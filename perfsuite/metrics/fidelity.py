"""How well a candidate's output follows the original's."""

from __future__ import annotations

from perfsuite.metric import Direction, Metric, Relation
from perfsuite.units import Unit

_SQNR = Relation(lambda candidate, original: candidate.fidelity_to(original)["sqnr"])
_AGREEMENT = Relation(lambda candidate, original: candidate.fidelity_to(original)["agreement"])

SQNR = Metric("sqnr", Unit.DECIBEL, Direction.HIGHER, _SQNR)
AGREEMENT = Metric("agreement", Unit.FRACTION, Direction.HIGHER, _AGREEMENT)
