"""What is kept of a run: one measurement for each verdict, frozen and checked when it is made."""

from __future__ import annotations

import math
import secrets
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Annotated, Any

import msgspec

from perfsuite.metric import ELAPSED, Against, Direction, Kind, Metric
from perfsuite.protocols import Run
from perfsuite.registry import METRICS, Registry
from perfsuite.spec import Audit, Verdict
from perfsuite.units import Unit

UNKNOWN = "unknown"
MOST = 1e300  # sums and differences of such numbers are finite
_KINDS = frozenset(kind.value for kind in Kind)
_SIDES = frozenset({"", *(side.value for side in Direction)})


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """One metric of one case. ``value``, ``low`` and ``high`` are in ``unit``; None: not measured.

    A time that was sampled beside a reference workload is the ratio to it (unit "ratio"), because only ratios
    last; the median of its calls is in ``p50_ms``. Raises ValueError for what cannot be compared.
    """

    machine: str = msgspec.field(name="machine_id")
    case: str = msgspec.field(name="case_key")
    metric: str
    kind: str  # exact, sampled or paired (perfsuite.spec.Kind)
    better: str  # lower or higher; empty: not known
    unit: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    yardstick: str = ""
    p50_ms: float | None = None
    status: str
    limit: str = msgspec.field(name="limit_text")

    def __post_init__(self) -> None:
        if self.kind not in _KINDS or self.better not in _SIDES:
            raise ValueError(f"{self.metric} of {self.case} is {self.kind!r}, and {self.better!r} is better")
        numbers = [number for number in (self.value, self.low, self.high, self.p50_ms) if number is not None]
        if not all(map(math.isfinite, numbers)):
            raise ValueError(f"{self.metric} of {self.case} is not finite")
        if self.kind == Kind.SAMPLED.value and not all(1 / MOST <= number <= MOST for number in numbers):
            raise ValueError(f"{self.metric} of {self.case} is sampled, and not positive or beyond {MOST:g}")


class Row(Measurement, frozen=True, kw_only=True):
    """A measurement with the run that it is from."""

    run: str = msgspec.field(name="run_id")
    time: Annotated[datetime, msgspec.Meta(tz=True)]
    commit: str = msgspec.field(name="commit_id")
    branch: str
    version: str


class Audited(msgspec.Struct, frozen=True):
    """A proven case that was timed all the same, in a run; ``contradicts``: a time was judged to have changed."""

    case: str
    contradicts: bool
    sentence: str
    run: str
    time: str
    commit: str


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One run. ``commit`` ends in "+changes" where the tree had some; ``time`` is in UTC."""

    run: str = msgspec.field(name="run_id")
    time: datetime
    commit: str = msgspec.field(name="commit_id", default=UNKNOWN)
    branch: str = ""
    version: str
    measurements: tuple[Measurement, ...]
    audits: dict[str, Audit] = {}  # by case

    def __post_init__(self) -> None:
        if self.time.tzinfo is None or self.time.utcoffset():
            raise ValueError(f"the time of a run is in UTC, not {self.time.isoformat()}")


def record_of(run: Run, machine: str, branch: str = "", metrics: Registry[Metric] = METRICS) -> RunRecord:
    """What is kept of a run. ``machine`` is the id of its class; a case may name another in its information."""
    created = datetime.fromisoformat(run.created) if run.created else datetime.now(UTC)
    time = created.astimezone(UTC).replace(microsecond=0)  # text of one length sorts as the times do
    return RunRecord(
        run=f"{time:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}",
        time=time,
        commit=run.commit or UNKNOWN,
        branch=branch,
        version=version("perfsuite"),
        measurements=tuple(_measurements(run, machine, metrics)),
        audits=dict(run.audits),
    )


def _measurements(run: Run, machine: str, metrics: Registry[Metric]) -> Iterator[Measurement]:
    for verdict in run.verdicts:
        shown = run.information.get(verdict.case, {})
        metric = metrics.get(verdict.metric) if verdict.metric in metrics else None
        better = run.better.get(verdict.metric) or (metric.better if metric else None)
        yield Measurement(
            machine=str(shown.get("machine", machine)),
            case=verdict.case,
            metric=verdict.metric,
            kind=(metric.shape if metric else Kind.EXACT).value,
            better=better.value if better else "",
            status=verdict.status.value,
            limit=verdict.limit,
            **(_time(verdict, metric, shown) if metric and metric.shape is Kind.SAMPLED else _plain(verdict)),
        )


def _plain(verdict: Verdict) -> dict[str, Any]:
    low, value, high = _interval(verdict)
    return {"unit": verdict.unit, "value": value, "low": low, "high": high}


def _time(verdict: Verdict, metric: Metric, shown: Mapping[str, Any]) -> dict[str, Any]:
    """The ratio to the reference workload where there was one; of a rate its inverse, so that higher stays better."""
    found = {**_plain(verdict), "p50_ms": _finite(shown.get("p50_ms"))}
    ratio = _finite(shown.get("yardstick_ratio"))
    if not ratio or not found["value"] or metric.quantity != ELAPSED or metric.against is Against.ORIGINAL:
        return found
    value = ratio if metric.better is Direction.LOWER else 1 / ratio
    ends = {name: found[name] and found[name] / found["value"] * value for name in ("low", "high")}
    return {**found, **ends, "unit": Unit.RATIO.value, "value": value, "yardstick": str(shown.get("yardstick", ""))}


def _interval(verdict: Verdict) -> tuple[float | None, float | None, float | None]:
    """Low, value and high in the metric's unit. A verdict with a change bounds that (perfsuite.spec.Verdict)."""
    low, value, high = _finite(verdict.low), _finite(verdict.measured), _finite(verdict.high)
    if value is None or low is None or high is None:
        return None, value, None
    scale = value / verdict.change if verdict.change else 1.0
    return low * scale, value, high * scale


def _finite(value: Any) -> float | None:
    plain = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    return float(value) if plain else None
