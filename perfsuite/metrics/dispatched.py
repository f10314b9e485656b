"""What torch dispatches in one call, or another runtime's optimized graph holds."""

from __future__ import annotations

from perfsuite.metric import DISPATCH, GRAPH, Counted, Direction, Exact, Metric
from perfsuite.units import Unit

LOWER = Direction.LOWER

OPERATORS = Metric("operators", Unit.COUNT, LOWER, Counted(lambda subject: subject.operators, GRAPH))
FLOPS = Metric("flops", Unit.COUNT, LOWER, Exact(lambda subject: subject.trace.flops, DISPATCH))
PEAK_MEMORY = Metric("peak_memory", Unit.BYTES, LOWER, Exact(lambda subject: subject.trace.peak_bytes, DISPATCH))
