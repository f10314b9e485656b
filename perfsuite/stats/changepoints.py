"""Where the level of a noisy series changed, seen afterwards.

The frame is that of E-divisive (Matteson and James 2014): take the best split, ask by permuting the
series whether chance alone splits as well, and go on in both parts. Values are clipped first (Huber
1964), so that an outlier weighs little more than any other value, and a split is a difference of
means, which notices a change of level but not of spread. Splits are sought in seeded intervals
(Kovacs, Buhlmann, Li and Munk 2023) beside the whole, so that a change that is soon undone is found,
too; that takes n log n steps where E-divisive takes n**2, for the same power (docs/history.md).
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfsuite.stats.decision import Spread

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

ALPHA = 0.01  # how often a series of exchangeable noise is split at all
MIN_SEGMENT = 3  # points on each side of a change: fewer cannot be told from outliers
CONFIDENCE = 0.95
_PERMUTATIONS = 499
_CLIP = 2.0  # robust standard deviations
_MIN_INTERVAL = 20  # points; shorter seeded intervals cost power and find no more changes (docs/history.md)
_MAX_SHIFT_POINTS = 500  # on each side, from which the size of a step is estimated
_LIKELIHOOD_DROP = (
    7.0  # of twice the log likelihood: places within it cover the true one with about 95% (docs/history.md)
)
_MAD_TO_SD = 1.4826  # for normal noise


@dataclass(frozen=True)
class ChangePoint:
    """Index of the first value of a new level: the most likely one, and the range of likely ones (95%)."""

    index: int
    earliest: int
    latest: int


@dataclass(frozen=True)
class Shift:
    """How far the level moved, in the unit of the values, and an interval for it."""

    center: float
    low: float
    high: float


def change_points(values: Sequence[float], alpha: float = ALPHA, seed: int = 0) -> tuple[ChangePoint, ...]:
    """Where the level changes, ascending. The same seed gives the same answer. ``alpha`` is 0.002 at least.

    Raises ValueError for NaN and infinity.
    """
    import numpy as np

    series = np.asarray(values, dtype=np.float64)
    if not np.isfinite(series).all():
        raise ValueError("a series with NaN or infinity has no change points")
    rng = np.random.default_rng(seed)
    found: list[int] = []
    parts = [(0, len(series))]
    while parts:
        start, stop = parts.pop()
        split = _split(series[start:stop], alpha, rng)
        if split:
            found.append(start + split)
            parts += [(start, start + split), (start + split, stop)]
    return tuple(_placed(series, sorted(found)))


def shift(before: Sequence[float], after: Sequence[float], confidence: float = CONFIDENCE) -> Shift:
    """The Hodges-Lehmann estimate of after - before, with the interval that the rank-sum test gives.

    The normal approximation of Hollander and Wolfe (1973). Where there are too few values for the
    confidence, the interval is the widest that they give.
    """
    import numpy as np

    old, new = np.asarray(before[-_MAX_SHIFT_POINTS:]), np.asarray(after[:_MAX_SHIFT_POINTS])
    differences = np.sort(np.subtract.outer(new, old), axis=None)
    count = len(differences)
    z = statistics.NormalDist().inv_cdf((1 + confidence) / 2)
    skipped = math.floor(count / 2 - z * math.sqrt(count * (len(old) + len(new) + 1) / 12))
    rank = max(skipped, 1)
    return Shift(float(np.median(differences)), float(differences[rank - 1]), float(differences[count - rank]))


def spread_within(values: Sequence[float], points: Sequence[int]) -> Spread:
    """The spread around the level of each segment: robust, from the median absolute deviation."""
    ends = [0, *points, len(values)]
    deviations: list[float] = []
    for start, stop in itertools.pairwise(ends):
        level = statistics.median(values[start:stop])
        deviations += [abs(value - level) for value in values[start:stop]]
    return Spread(_MAD_TO_SD * statistics.median(deviations), len(values) - len(points) - 1)


def _split(part: Floats, alpha: float, rng: np.random.Generator) -> int:
    """The first index of the second level, or 0 where chance alone splits as well."""
    import numpy as np

    if len(part) < 2 * MIN_SEGMENT:
        return 0
    clipped = _clipped(part)
    if not clipped.any():
        return 0
    intervals = list(_seeded_intervals(len(part)))
    (strength,), where = _strongest(clipped[None], intervals)
    shuffled = rng.permuted(np.broadcast_to(clipped, (_PERMUTATIONS, len(part))), axis=1)
    by_chance, _ = _strongest(shuffled, intervals)
    as_strong = int((by_chance >= strength * (1 - 1e-9)).sum())  # equal but for rounding counts
    return where if (1 + as_strong) / (1 + _PERMUTATIONS) <= alpha else 0


def _clipped(part: Floats) -> Floats:
    """Deviations from the median, limited to two robust standard deviations, with mean 0."""
    import numpy as np

    deviations = part - np.median(part)
    scale = _MAD_TO_SD * np.median(np.abs(deviations)) or np.abs(deviations).mean()
    clipped = np.clip(deviations, -_CLIP * scale, _CLIP * scale)
    centred: Floats = clipped - clipped.mean()
    return centred


def _seeded_intervals(length: int) -> Iterator[tuple[int, int]]:
    """The whole, then shorter by the root of two each time, each covering everything twice."""
    yield 0, length
    size = length / math.sqrt(2)
    while size >= _MIN_INTERVAL:
        whole = math.ceil(size)
        count = math.ceil(2 * length / size) - 1
        for number in range(count):
            start = round(number * (length - whole) / (count - 1))
            yield start, start + whole
        size /= math.sqrt(2)


def _strongest(rows: Floats, intervals: Sequence[tuple[int, int]]) -> tuple[Floats, int]:
    """For each row (rows, length) the strength of its strongest split, and where the first row has that."""
    import numpy as np

    sums = np.pad(rows.cumsum(axis=1), ((0, 0), (1, 0)))
    best, where = np.full(len(rows), -1.0), 0
    for start, stop in intervals:
        strengths = _strengths(sums[:, start : stop + 1])
        if strengths[0].max() > best[0]:
            where = start + MIN_SEGMENT + int(strengths[0].argmax())
        best = np.maximum(best, strengths.max(axis=1))
    return best, where


def _strengths(sums: Floats) -> Floats:
    """The standardized difference of means at each split, from cumulated sums (rows, length + 1).

    Shape (rows, splits); the first split has MIN_SEGMENT values before it.
    """
    import numpy as np

    length = sums.shape[1] - 1
    left = np.arange(MIN_SEGMENT, length - MIN_SEGMENT + 1)
    share = left / length
    excess = sums[:, left] - sums[:, [0]] - share * (sums[:, [-1]] - sums[:, [0]])
    strengths: Floats = np.abs(excess) / np.sqrt(left * (1 - share))
    return strengths


def _placed(series: Floats, points: Sequence[int]) -> Iterator[ChangePoint]:
    """Each change placed anew between its neighbours, now that these are known."""
    start = 0
    for number, _ in enumerate(points):
        stop = points[number + 1] if number + 1 < len(points) else len(series)
        index, earliest, latest = _likely_splits(_clipped(series[start:stop]))
        yield ChangePoint(start + index, start + earliest, start + latest)
        start += index


def _likely_splits(clipped: Floats) -> tuple[int, int, int]:
    """The split that explains most, and the first and last that explain nearly as much (normal likelihood)."""
    import numpy as np

    sums = np.pad(clipped.cumsum(), (1, 0))[None]
    explained = _strengths(sums)[0] ** 2
    best = int(explained.argmax())
    noise = max(float(np.square(clipped).sum() - explained[best]), 0.0) / (len(clipped) - 2)
    likely = np.flatnonzero(explained[best] - explained <= _LIKELIHOOD_DROP * noise)
    return best + MIN_SEGMENT, int(likely[0]) + MIN_SEGMENT, int(likely[-1]) + MIN_SEGMENT
