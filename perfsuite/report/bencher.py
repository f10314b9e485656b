"""Numbers in Bencher's metric format (BMF): benchmark -> measure -> value, with bounds where there are any.

Built-in measures have Bencher's names and units (latency in nanoseconds, throughput, file-size in bytes);
others have ours in kebab case, in base units. Verdicts stay here: Bencher has thresholds of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from perfsuite.protocols import Run
from perfsuite.report.numbers import Number
from perfsuite.report.rows import Row, rows

_NANOSECONDS = 1e9
_MEASURES = {"size": "file-size"}


def lines(run: Run) -> Iterator[str]:
    """One JSON object. A case without a number is left out; so is a time that nobody measured."""
    content = {row.case: measures for row in rows(run) if (measures := dict(_measures(row)))}
    yield from msgspec.json.format(msgspec.json.encode(content), indent=1).decode().split("\n")


def _measures(row: Row) -> Iterator[tuple[str, dict[str, float]]]:
    judged = {verdict.metric for verdict in row.verdicts}
    for metric, number in row.numbers.items():
        if metric == "p50" and "latency" not in judged:
            yield "latency", _metric(number, _NANOSECONDS)
        elif metric == "latency":
            yield metric, _metric(number, _NANOSECONDS)
        else:
            yield _MEASURES.get(metric, metric.replace("_", "-")), _metric(number, _factor(number))


def _factor(number: Number) -> float:
    return _NANOSECONDS if number.unit.value == "seconds" else 1


def _metric(number: Number, factor: float) -> dict[str, float]:
    bounds = {"lower_value": number.low, "upper_value": number.high}
    return {"value": number.value * factor, **{name: end * factor for name, end in bounds.items() if end is not None}}
