"""The numbers of a case in base units, with their intervals: from what is shown, and from verdicts. And its series."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import msgspec

from perfsuite.protocols import Run
from perfsuite.registry import METRICS
from perfsuite.spec import Direction, Verdict
from perfsuite.units import Unit, format_value

_RENAMED = {"examples_per_s": "throughput"}
_SUFFIXES = {"_ms": (Unit.SECONDS, 1e-3), "_bytes": (Unit.BYTES, 1.0)}


@dataclass(frozen=True)
class Number:
    """A value in the base unit of its dimension; ``low`` and ``high`` bound it where that is known."""

    value: float
    unit: Unit
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        return format_value(self.value, self.unit)


class _Claims(msgspec.Struct):
    """The part of perfsuite.techniques.claims.Claims that is drawn."""

    series: tuple[str, Annotated[float, msgspec.Meta(ge=0, le=1)]] | None = None


def numbers(run: Run, case: str, verdicts: tuple[Verdict, ...] = ()) -> dict[str, Number]:
    """All numbers of one case by metric. What was measured here comes before what a verdict says of it."""
    judged = {verdict.metric: number for verdict in verdicts if (number := number_of(verdict)) is not None}
    return {**judged, **_shown(run.information.get(case, {}))}


def series_of(run: Run, case: str) -> tuple[str, float] | None:
    """The series that the case's technique is of, and the fraction that it removes; None where nobody claims that."""
    try:
        return msgspec.convert(run.information.get(case, {}).get("claims", {}), _Claims).series
    except msgspec.ValidationError:  # a report from elsewhere
        return None


def described(information: Mapping[str, object]) -> dict[str, str]:
    """Everything that is shown of a case, as text for people; intervals stand beside their values.

    What is claimed is for programs: people read it in the technique's name.
    """
    found = {}
    for name, value in information.items():
        if isinstance(value, Mapping):
            continue
        if name.removesuffix("_low").removesuffix("_high") in information and name.endswith(("_low", "_high")):
            continue
        metric, unit, factor = _meaning(name)
        ends = [_text(information[key], unit, factor) for key in (f"{name}_low", f"{name}_high") if key in information]
        found[metric] = _text(value, unit, factor) + (f" ({' to '.join(ends)})" if ends else "")
    return found


def number_of(verdict: Verdict) -> Number | None:
    """What a verdict measured, in the metric's unit; None where there is no finite value."""
    if verdict.measured is None or not math.isfinite(verdict.measured):
        return None
    ends = [end for end in _bounds(verdict) if end is not None and math.isfinite(end)]
    low, high = sorted(ends) if len(ends) == 2 else (None, None)
    return Number(verdict.measured, Unit(verdict.unit), low, high)


def direction(run: Run, verdict: Verdict) -> Direction | None:
    """Which way is better: as the run says, as the built-in metric says, or as a bound shows. None: not known."""
    if verdict.metric in run.better:
        return run.better[verdict.metric]
    if verdict.metric in METRICS:
        return METRICS.get(verdict.metric).better
    return {">=": Direction.HIGHER, "<=": Direction.LOWER}.get(verdict.limit.strip()[:2])


def _bounds(verdict: Verdict) -> tuple[float | None, float | None]:
    """A verdict with a change bounds the change, others bound the value itself (perfsuite.spec.Verdict)."""
    if verdict.change is None or verdict.low is None or verdict.high is None or verdict.expected is None:
        return verdict.low, verdict.high
    return verdict.expected * verdict.low, verdict.expected * verdict.high


def _shown(information: Mapping[str, object]) -> dict[str, Number]:
    found = {}
    for name, value in information.items():
        metric, unit, factor = _meaning(name)
        low, value, high = (_scaled(information.get(key), factor) for key in (f"{name}_low", name, f"{name}_high"))
        if unit is not None and value is not None:
            found[metric] = Number(value, unit, low, high)
    return found


def _meaning(name: str) -> tuple[str, Unit | None, float]:
    """The metric that a shown name stands for, its unit, and the factor to its base unit."""
    for suffix, (unit, factor) in _SUFFIXES.items():
        if name.endswith(suffix):
            return name.removesuffix(suffix), unit, factor
    metric = _RENAMED.get(name, name)
    return metric, METRICS.get(metric).unit if metric in METRICS else None, 1.0


def _scaled(value: object, factor: float) -> float | None:
    plain = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return value * factor if plain else None  # type: ignore[operator]  # mypy does not see through `plain`


def _text(value: object, unit: Unit | None, factor: float) -> str:
    number = _scaled(value, factor)
    if unit is not None and number is not None:
        return format_value(number, unit)
    if isinstance(value, float):
        return f"{value:.4g}"
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
