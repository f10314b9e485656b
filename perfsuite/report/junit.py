"""Verdicts as properties of a test case in JUnit's XML, for pytest's ``record_property``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from perfsuite.report.rows import visible
from perfsuite.spec import Status, Verdict


def properties(verdicts: Iterable[Verdict]) -> list[tuple[str, str]]:
    """Names and values: the status under ``perfsuite.METRIC``, its case, limit, unit and numbers below that.

    Numbers are in base units, in full. A metric that one test judges again counts on: ``perfsuite.latency#2``.
    """
    seen: Counter[str] = Counter()
    found: list[tuple[str, str]] = []
    for verdict in verdicts:
        seen[verdict.metric] += 1
        ordinal = f"#{seen[verdict.metric]}" if seen[verdict.metric] > 1 else ""
        name = f"perfsuite.{verdict.metric}{ordinal}"
        found.append((name, verdict.status.value))
        found += [(f"{name}.{part}", visible(text)) for part, text in _parts(verdict).items() if text]
    return found


def _parts(verdict: Verdict) -> dict[str, str]:
    numbers = {"measured": verdict.measured, "expected": verdict.expected, "change": verdict.change,
               "low": verdict.low, "high": verdict.high}  # fmt: skip
    why = "" if verdict.status is Status.PASS else verdict.sentence
    written = {name: repr(value) for name, value in numbers.items() if value is not None}
    return {"case": verdict.case, "limit": verdict.limit, "unit": verdict.unit, **written, "why": why}
