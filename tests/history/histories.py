"""Histories made by hand: what a run found, and rows as they are read back."""

from datetime import UTC, datetime, timedelta

from perfsuite.history import Measurement, Row, RunRecord

START = datetime(2026, 8, 1, tzinfo=UTC)
CASE = "encoder-small/int8-dynamic/cpu/b1"
LATENCY = {
    "machine": "epyc-2c2t-0a1b2c3d", "case": CASE, "metric": "latency", "kind": "sampled", "better": "lower",
    "unit": "ratio", "yardstick": "transformer-layer-1", "p50_ms": 1.5, "status": "PASS", "limit": "5%",
}  # fmt: skip
SIZE = {
    **LATENCY, "metric": "size", "kind": "exact", "unit": "bytes", "yardstick": "", "p50_ms": None, "limit": "0%",
}  # fmt: skip


def run(number=0, *measurements, **kwargs):
    found = measurements or (Measurement(**{**LATENCY, "value": 1.25, "low": 1.2, "high": 1.3}),)
    given = {"commit": f"{number:07x}", "branch": "main", "version": "0.1.0", **kwargs}
    return RunRecord(run=f"run-{number:05}", time=START + timedelta(hours=number), measurements=found, **given)


def rows(values, like=LATENCY, **kwargs):
    """One row for each value, an hour apart, each at a commit of its own."""
    return [
        Row(**{
            **like, "run": f"run-{number:05}", "time": START + timedelta(hours=number), "commit": f"{number:07x}",
            "branch": "main", "version": "0.1.0", "value": value, **kwargs,
        })
        for number, value in enumerate(values)
    ]  # fmt: skip
