"""The kinds of charts: lines over steps, points with a front, intervals, ridges of samples, and two-sided bars."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from perfsuite.report.charts.svg import (
    LEAST,
    WIDTH,
    Axis,
    grid,
    labels_below,
    mark,
    picture,
    shortened,
    style,
    tag,
    text_width,
)
from perfsuite.units import Unit, format_value

_LEFT, _RIGHT, _TOP, _BOTTOM = 66.0, WIDTH - 14.0, 12.0, 218.0
_HEIGHT = 258
_RIDGE, _BINS, _BIN = 26, 34, 8  # pixels of a ridge, its bins, and pixels of one


@dataclass(frozen=True)
class Point:
    """``x`` and ``y`` in base units; ``about`` is what hovering tells."""

    x: float
    y: float
    about: str


@dataclass(frozen=True)
class Line:
    """``series`` chooses the look, so that one technique looks the same in every chart."""

    series: int
    name: str
    points: tuple[Point, ...]


def steps(lines: Sequence[Line], x_name: str, unit: Unit, about: str) -> Markup:
    """A line for each series over evenly spaced steps, such as batch sizes; up from zero."""
    xs = sorted({point.x for line in lines for point in line.points})
    room = (_RIGHT - _LEFT) / len(xs)
    across = {x: _LEFT + (i + 0.5) * room for i, x in enumerate(xs)}
    up = Axis.from_zero(_heights(lines), _BOTTOM, _TOP, unit)
    every = -(-len(xs) // 10)
    ticks = [tag("text", f"{x:g}", x=across[x], y=_BOTTOM + 16, text_anchor="middle") for x in xs[::every]]
    return _lines(lines, across, up, [*ticks, _x_title(x_name)], about)


def shares(lines: Sequence[Line], x_name: str, unit: Unit, about: str) -> Markup:
    """A line for each series over fractions, such as sparsities, on a scale."""
    xs = [point.x for line in lines for point in line.points]
    scale = Axis.around(xs, _LEFT + 8, _RIGHT - 8, Unit.FRACTION)
    up = Axis.around(_heights(lines), _BOTTOM, _TOP, unit)
    below = [labels_below(scale, _BOTTOM + 16), _x_title(x_name)]
    return _lines(lines, {x: scale.at(x) for x in xs}, up, below, about)


def _heights(lines: Sequence[Line]) -> list[float]:
    return [point.y for line in lines for point in line.points]


def _lines(lines: Sequence[Line], across: Mapping[float, float], up: Axis, below: list[Markup], about: str) -> Markup:
    parts = [grid(up, (_LEFT, _RIGHT), vertical=True), *below]
    for line in lines:
        ordered = sorted(line.points, key=lambda point: point.x)
        path = " ".join(f"{across[point.x]:.1f},{up.at(point.y):.1f}" for point in ordered)
        parts.append(tag("polyline", points=path, class_=f"line {style(line.series)}"))
        parts += [mark(line.series, across[point.x], up.at(point.y), point.about) for point in ordered]
    return picture(_HEIGHT, about, *parts)


def scatter(lines: Sequence[Line], units: tuple[Unit, Unit], x_name: str, front: set[str], about: str) -> Markup:
    """A named point for each line; those of the front are ringed and joined. Left and up is better."""
    points = [(line, line.points[0]) for line in lines]
    across = Axis.around([point.x for _, point in points], _LEFT, _RIGHT, units[0], log=True)
    up = Axis.around([point.y for _, point in points], _BOTTOM, _TOP, units[1])
    parts = [grid(up, (_LEFT, _RIGHT), vertical=True), grid(across, (_TOP, _BOTTOM), vertical=False), _x_title(x_name)]
    best = sorted((point for line, point in points if line.name in front), key=lambda point: point.x)
    path = " ".join(f"{across.at(point.x):.1f},{up.at(point.y):.1f}" for point in best)
    parts.append(tag("polyline", points=path, class_="front"))
    placed = [_Box(across.at(point.x) - 8, up.at(point.y) - 8, 16, 16) for _, point in points]
    labels = []
    for line, point in sorted(points, key=lambda pair: pair[0].name not in front):  # the front is named first
        x, y = across.at(point.x), up.at(point.y)
        if line.name in front:
            parts.append(tag("circle", cx=x, cy=y, r=8.5, class_="ring"))
        parts.append(mark(line.series, x, y, point.about))
        labels += _label(line.name, x, y, placed)
    return picture(_HEIGHT, about, *parts, *labels)


@dataclass(frozen=True)
class Interval:
    """A value between two ends; ``bound`` is what it had to reach, if anything."""

    name: str
    value: float
    low: float | None
    high: float | None
    bound: float | None
    style: str
    about: str


def intervals(rows: Sequence[Interval], unit: Unit, reference: float, about: str) -> Markup:
    """A dot with its interval in each row, beside the line of the reference (of no change)."""
    left, right, bottom = 160.0, WIDTH - 58.0, 14.0 + 22 * len(rows)
    ends = [
        end
        for row in rows
        for end in (row.value, row.low, row.high, row.bound, reference)
        if end is not None and end >= LEAST
    ]
    across = Axis.around(ends, left, right, unit, log=True)
    at = across.at(reference)
    parts = [grid(across, (8.0, bottom), vertical=False)]
    parts.append(tag("line", x1=at, x2=at, y1=8.0, y2=bottom, class_="reference"))
    for i, row in enumerate(rows):
        y = 20.0 + 22 * i
        low, high = (max(end or row.value, across.low) for end in (row.low, row.high))
        parts.append(
            tag("text", tag("title", row.name), shortened(row.name, left - 12), x=left - 8, y=y + 4, text_anchor="end")
        )
        parts.append(tag("path", d=f"M{across.at(low):.1f} {y}H{across.at(high):.1f}", class_=f"whisker {row.style}"))
        if row.bound is not None:
            parts.append(tag("path", d=f"M{across.at(max(row.bound, across.low)):.1f} {y - 7}v14", class_="bound"))
        parts.append(mark(0, across.at(row.value), y, row.about, row.style))
        parts.append(tag("text", format_value(row.value, unit), x=right + 6, y=y + 4, class_="value"))
    return picture(bottom + 24, about, *parts)


def ridges(blocks: Sequence[Sequence[float]], about: str) -> Markup:
    """A small histogram of each block over one scale of time (ms), with its median and its count.

    The scale ends where 99% of the samples do: what is slower is counted in the last bin.
    """
    import numpy as np

    samples = [np.asarray(block) for block in blocks]
    every = np.concatenate(samples)
    low, high = float(every.min()), float(np.quantile(every, 0.99))
    across = Axis.around([low / 1e3, max(high, low * 1.001) / 1e3], 62, 62 + _BIN * _BINS, Unit.SECONDS)
    edges = np.linspace(across.low * 1e3, across.high * 1e3, _BINS + 1)
    parts = []
    for i, block in enumerate(samples):
        base = (i + 1) * _RIDGE
        counts, _ = np.histogram(np.minimum(block, edges[-1]), edges)
        heights = np.rint(counts * ((_RIDGE - 4) / counts.max())).astype(int).tolist()
        middle = float(np.median(block)) / 1e3
        parts.append(tag("text", f"block {i + 1}", x=0, y=base - 3))
        parts.append(tag("path", d=f"M62 {base}{_skyline(heights)}V{base}z", class_="ridge"))
        parts.append(tag("path", d=f"M{min(across.at(middle), across.end):.0f} {base}v-24", class_="median"))
        parts.append(tag("text", f"{format_value(middle, Unit.SECONDS)} · {len(block)}", x=340, y=base - 3))
    bottom = len(blocks) * _RIDGE + 16
    parts.append(labels_below(across, bottom, 3))
    return picture(bottom + 6, about, *parts)


def _skyline(heights: Sequence[int]) -> str:
    """Path commands for bars side by side, up from the current point."""
    path, before = "", 0
    for height, same in itertools.groupby(heights):
        path += f"v{before - height}h{_BIN * sum(1 for _ in same)}"
        before = height
    return path


def bars(changes: Sequence[tuple[str, int]], about: str) -> Markup:
    """What came (to the right) and what went (to the left), in calls."""
    left, largest = 190.0, max(abs(change) for _, change in changes)
    middle, reach = (left + WIDTH) / 2, (WIDTH - left) / 2 - 44
    parts = [tag("line", x1=middle, x2=middle, y1=0, y2=18 * len(changes), class_="reference")]
    for i, (name, change) in enumerate(changes):
        y, length = 18.0 * i, max(reach * abs(change) / largest, 1.5)
        side = 1 if change > 0 else -1
        parts.append(
            tag("text", tag("title", name), shortened(name, left - 8), x=left - 8, y=y + 13, text_anchor="end")
        )
        x = middle if change > 0 else middle - length
        parts.append(tag("rect", x=x, y=y + 3, width=length, height=12, class_="came" if change > 0 else "went"))
        anchor = "start" if change > 0 else "end"
        parts.append(tag("text", f"{change:+,}", x=middle + side * (length + 5), y=y + 13, text_anchor=anchor))
    return picture(18 * len(changes) + 2, about, *parts)


@dataclass(frozen=True)
class _Box:
    x: float
    y: float
    width: float
    height: float

    def hits(self, other: _Box) -> bool:
        apart = (
            self.x + self.width <= other.x or other.x + other.width <= self.x
            or self.y + self.height <= other.y or other.y + other.height <= self.y
        )  # fmt: skip
        return not apart


def _label(name: str, x: float, y: float, placed: list[_Box]) -> list[Markup]:
    """The name beside its point, where nothing else is; nowhere if there is no room: the legend has it, too."""
    shown = shortened(name, 150)
    width = text_width(shown)
    for left, top in ((x + 10, y - 6), (x - width - 10, y - 6), (x - width / 2, y - 22), (x - width / 2, y + 10)):
        box = _Box(left, top, width, 12)
        inside = left >= _LEFT and left + width <= WIDTH and top >= 0 and top + 12 <= _BOTTOM
        if inside and not any(box.hits(other) for other in placed):
            placed.append(box)
            return [tag("text", shown, x=left, y=top + 10, class_="label")]
    return []


def _x_title(name: str) -> Markup:
    return tag("text", name, x=(_LEFT + _RIGHT) / 2, y=_BOTTOM + 34, text_anchor="middle", class_="title")
