"""When a metric of a case changed, by how much, and between which commits. One machine class at a time."""

from __future__ import annotations

import itertools
import math
import statistics
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from perfsuite.history.record import Row
from perfsuite.progress import tell
from perfsuite.spec import Direction, Kind
from perfsuite.stats.changepoints import change_points, shift, spread_within
from perfsuite.stats.decision import Spread


@dataclass(frozen=True)
class Series:
    """One metric of one case on one machine class, beside one reference workload: a value for each run, by time."""

    case: str
    metric: str
    machine: str
    unit: str
    yardstick: str
    rows: tuple[Row, ...]

    @property
    def values(self) -> tuple[float, ...]:
        return tuple(row.value for row in self.rows if row.value is not None)

    @property
    def is_sampled(self) -> bool:
        return self.rows[-1].kind == Kind.SAMPLED.value


@dataclass(frozen=True)
class Change:
    """One step of a series: ``first_after`` is most likely the first run with the new level.

    What brought it came after the commit of the run before that, and no later than its own. ``likely``
    are all the runs that may be the first (95%; a single one where the metric is exact). ``ratio`` is
    after/before, None where before is 0; ``low`` and ``high`` bound it with 95% (None: it is exact).
    """

    index: int  # of first_after in the series
    last_before: Row
    first_after: Row
    likely: tuple[Row, ...]
    before: float
    after: float
    ratio: float | None
    low: float | None = None
    high: float | None = None

    @property
    def is_worse(self) -> bool | None:
        """None where the metric has no better side."""
        better = self.first_after.better
        if not better or Direction(better) is Direction.SAME:
            return None
        return (self.after - self.before) * Direction(better).sign > 0


def series_of(rows: Iterable[Row]) -> list[Series]:
    """Rows with a value, by time, in one series for all that can be compared. Of one run the last row counts."""
    found: dict[tuple[str, str, str, str, str], dict[str, Row]] = {}
    for row in sorted(rows, key=lambda row: (row.time, row.run)):
        if row.value is not None:
            key = (row.case, row.metric, row.machine, row.unit, row.yardstick)
            found.setdefault(key, {})[row.run] = row
    return [Series(*key, rows=tuple(runs.values())) for key, runs in sorted(found.items())]


def changes_of(series: Series, seed: int = 0) -> tuple[Change, ...]:
    """The steps of a series, by time. An exact metric has no noise, so each change of it is one."""
    if series.is_sampled:
        return tuple(_steps(series, seed))
    pairs = enumerate(itertools.pairwise(series.rows), 1)
    return tuple(_exact(index, old, new) for index, (old, new) in pairs if old.value != new.value)


def usual_spread(series: Series, changes: Sequence[Change]) -> Spread | None:
    """The spread of log values between runs without a change: what a tolerance has to allow for.

    The standard deviation, robust, and its degrees of freedom. None for fewer than three runs, or an exact metric.
    """
    if not series.is_sampled or len(series.rows) < 3:
        return None
    return spread_within(_logs(series), [change.index for change in changes])


def _steps(series: Series, seed: int) -> Iterator[Change]:
    tell(f"{series.case}: change points of {series.metric}", 0, 1)
    logs, rows = _logs(series), series.rows
    points = change_points(logs, seed=seed)
    ends = [0, *(point.index for point in points), len(logs)]
    for point, start, stop in zip(points, ends, ends[2:], strict=False):
        old, new = logs[start : point.index], logs[point.index : stop]
        moved = shift(old, new)
        yield Change(
            point.index, rows[point.index - 1], rows[point.index], rows[point.earliest : point.latest + 1],
            *(math.exp(log) for log in (statistics.median(old), statistics.median(new))),
            *(_exp(log) for log in (moved.center, moved.low, moved.high)),
        )  # fmt: skip


def _exact(index: int, old: Row, new: Row) -> Change:
    before, after = old.value or 0.0, new.value or 0.0  # never None: series_of
    return Change(index, old, new, (new,), before, after, after / before if before else None)


def _exp(log: float) -> float:
    """The exponential, or infinity where it is beyond the range of numbers."""
    return math.exp(log) if log < math.log(sys.float_info.max) else math.inf


def _logs(series: Series) -> list[float]:
    return [math.log(value) for value in series.values]
