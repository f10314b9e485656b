"""The metrics that come with perfsuite, as declarations. Importing this imports no torch.

An exact metric's ``measure`` takes a ``Subject`` (perfsuite.measure.subject), which has computed
what it reads.
"""

from __future__ import annotations

from perfsuite.spec import Against, Direction, Kind, Metric
from perfsuite.units import Unit

LOWER, HIGHER = Direction.LOWER, Direction.HIGHER

LATENCY = Metric("latency", Unit.SECONDS, LOWER, Kind.SAMPLED)
THROUGHPUT = Metric("throughput", Unit.PER_SECOND, HIGHER, Kind.SAMPLED)
SPEEDUP = Metric("speedup", Unit.RATIO, HIGHER, Kind.SAMPLED, Against.ORIGINAL)

SIZE = Metric("size", Unit.BYTES, LOWER, measure=lambda subject: subject.size_bytes, needs="files")
PARAMETERS = Metric("parameters", Unit.COUNT, LOWER, measure=lambda subject: subject.stored.elements, needs="model")
NONZEROS = Metric("nonzeros", Unit.COUNT, LOWER, measure=lambda subject: subject.stored.nonzeros, needs="model")
SPARSITY = Metric("sparsity", Unit.FRACTION, HIGHER, measure=lambda subject: subject.stored.sparsity, needs="model")
FLOPS = Metric("flops", Unit.COUNT, LOWER, measure=lambda subject: subject.trace.flops, dispatched=True)
OPERATORS = Metric("operators", Unit.COUNT, LOWER, measure=lambda subject: subject.trace.calls, dispatched=True)
PEAK_MEMORY = Metric(
    "peak_memory", Unit.BYTES, LOWER, measure=lambda subject: subject.trace.peak_bytes, dispatched=True
)
COMPRESSION = Metric("compression", Unit.RATIO, HIGHER, against=Against.ORIGINAL, needs="model")

ACCURACY = Metric("accuracy", Unit.FRACTION, HIGHER, Kind.PAIRED, needs="model")
ACCURACY_KEPT = Metric("accuracy_kept", Unit.FRACTION, HIGHER, Kind.PAIRED, Against.ORIGINAL, needs="model")
SQNR = Metric("sqnr", Unit.DECIBEL, HIGHER, against=Against.ORIGINAL, needs="model")
AGREEMENT = Metric("agreement", Unit.FRACTION, HIGHER, against=Against.ORIGINAL, needs="model")
