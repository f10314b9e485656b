"""Numbers for github-action-benchmark's ``customSmallerIsBetter`` and ``customBiggerIsBetter``.

The tool takes one direction for each file, so every judged metric is in exactly one of the two. It
compares plain numbers by a ratio: its alerts know nothing of intervals, which it shows as text.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from perfsuite.protocols import Run
from perfsuite.report.numbers import direction, number_of
from perfsuite.report.rows import rows
from perfsuite.spec import Direction, Verdict


def smaller_lines(run: Run) -> Iterator[str]:
    """A JSON list of what is better when smaller: latency, size, memory, operators."""
    return _lines(run, Direction.LOWER)


def bigger_lines(run: Run) -> Iterator[str]:
    """A JSON list of what is better when bigger: throughput, speedup, compression, accuracy."""
    return _lines(run, Direction.HIGHER)


def _lines(run: Run, better: Direction) -> Iterator[str]:
    judged = (verdict for row in rows(run) for verdict in row.verdicts)
    entries: dict[object, dict[str, str | float]] = {}
    for verdict in judged:
        if direction(run, verdict) is better and (entry := _entry(verdict)):
            entries.setdefault(entry["name"], entry)  # one value for each name, however many limits it has
    yield from msgspec.json.format(msgspec.json.encode(list(entries.values())), indent=1).decode().split("\n")


def _entry(verdict: Verdict) -> dict[str, str | float] | None:
    number = number_of(verdict)
    if number is None:
        return None
    bounded = number.low is not None and number.high is not None
    interval = {"range": f"{verdict.formatted(number.low)} to {verdict.formatted(number.high)}"} if bounded else {}
    return {
        "name": f"{verdict.case} {verdict.metric}",
        "unit": number.unit.value,
        "value": number.value,
        **interval,
        "extra": f"{verdict.status.value}: {verdict.sentence}",
    }
