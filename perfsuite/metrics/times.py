"""How long a call takes. A throughput, and a speedup over the original, are rates of the same samples."""

from __future__ import annotations

from perfsuite.metric import TIME, Against, Direction, Metric, Sampled
from perfsuite.units import Unit

LATENCY = Metric("latency", Unit.SECONDS, Direction.LOWER, Sampled(TIME))
THROUGHPUT = Metric("throughput", Unit.PER_SECOND, Direction.HIGHER, Sampled(TIME, rate=True))
SPEEDUP = Metric("speedup", Unit.RATIO, Direction.HIGHER, Sampled(TIME, rate=True), Against.ORIGINAL)
