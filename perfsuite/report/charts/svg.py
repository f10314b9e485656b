"""Elements, axes and marks. Every text and attribute is escaped; a series is told by shape as well as by colour."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from perfsuite.report.rows import visible
from perfsuite.units import Unit, format_value

SHAPES = (
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0", "M-3.5-3.5h7v7h-7z", "M0-4.8L4.5 3.4h-9z", "M0-5L5 0 0 5-5 0z",
    "M0 4.8L4.5-3.4h-9z", "M-1.5-5h3v3.5h3.5v3h-3.5v3.5h-3v-3.5h-3.5v-3h3.5z", "M-5-2h10v4h-10z", "M-2-5h4v10h-4z",
)  # fmt: skip
WIDTH = 420
_STYLES = 8
LEAST = 1e-100  # what a logarithmic axis takes for positive
_WIDE = 8  # a logarithmic axis over less than this factor has evenly spaced ticks
_CHARACTER = 7.0  # pixels of one at the page's larger size of chart text


def tag(name: str, *children: str, **attributes: object) -> Markup:
    """One element. ``class_`` is class, ``stroke_width`` is stroke-width; None leaves an attribute out."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_plain(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    inside = "".join(child if isinstance(child, Markup) else _plain(child) for child in children)
    return Markup(f"<{name}{written}>{inside}</{name}>")


def _plain(value: object) -> str:
    """A coordinate to a tenth of a pixel, a text escaped."""
    if isinstance(value, int | float):
        return f"{value:.1f}".removesuffix(".0")
    return str(escape(visible(str(value))))


def picture(height: float, about: str, *children: str) -> Markup:
    """A whole chart, ``WIDTH`` wide, with the words that stand for it where it cannot be seen."""
    return tag("svg", *children, viewBox=f"0 0 {WIDTH} {height:g}", role="img", aria_label=about)


def mark(series: int, x: float, y: float, about: str, extra: str = "") -> Markup:
    """One point of a series; hovering tells what it is."""
    place = f"translate({x:.1f} {y:.1f})"
    return tag(
        "path", tag("title", about), d=_shape(series), transform=place, class_=f"m {style(series)} {extra}".strip()
    )


def key(series: int) -> Markup:
    """The mark of a series beside its name in a legend."""
    shape = tag("path", d=_shape(series), class_=f"m {style(series)}")
    return tag("svg", shape, viewBox="-6 -6 12 12", class_="key", aria_hidden="true")


def style(series: int) -> str:
    """The class of a series, which has its colour and its dashes."""
    return f"s{series % _STYLES}"


def _shape(series: int) -> str:
    """Each pair of colour and shape comes once in 64 series."""
    return SHAPES[(series + series // _STYLES) % len(SHAPES)]


def shortened(text: str, pixels: float) -> str:
    """Text that is not longer than so many pixels, its end cut."""
    longest = max(int(pixels / _CHARACTER), 4)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def text_width(text: str) -> float:
    return len(text) * _CHARACTER


@dataclass(frozen=True)
class Axis:
    """Values from ``low`` to ``high`` onto pixels from ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float
    unit: Unit
    log: bool = False

    @staticmethod
    def around(values: Sequence[float], start: float, end: float, unit: Unit, *, log: bool = False) -> Axis:
        """An axis with a little air around the values, which must be at least LEAST where it is logarithmic."""
        low, high = min(values), max(values)
        if log:
            air = max((high / low) ** 0.08, 1.02)
            return Axis(low / air, high * air, start, end, unit, log=True)
        air = (high - low) * 0.08 or abs(high) * 0.02 or 1.0
        return Axis(low - air, high + air, start, end, unit)

    @staticmethod
    def from_zero(values: Sequence[float], start: float, end: float, unit: Unit) -> Axis:
        return Axis(0.0, max(values) * 1.08 or 1.0, start, end, unit)

    def at(self, value: float) -> float:
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, about: int = 5) -> list[float]:
        """Round values on the axis, about so many."""
        if self.log and self.high / self.low > _WIDE:
            found = _log_ticks(self.low, self.high)
            return found[:: max(1, math.ceil(len(found) / (about + 2)))]
        step = _round_step((self.high - self.low) / about)
        first = math.ceil(self.low / step)
        return [(first + i) * step for i in range(int(self.high / step) - first + 1)]

    def label(self, value: float) -> str:
        return format_value(round(value, 12), self.unit)


def grid(axis: Axis, across: tuple[float, float], *, vertical: bool) -> Markup:
    """Tick labels and the lines that lead from them across the plot. ``vertical``: the axis goes up the left side."""
    parts = [] if vertical else [labels_below(axis, across[1] + 15)]
    for value in axis.ticks():
        at = axis.at(value)
        if vertical:
            line = {"x1": across[0], "x2": across[1], "y1": at, "y2": at}
            parts.append(tag("text", axis.label(value), x=across[0] - 6, y=at + 3.5, text_anchor="end"))
        else:
            line = {"x1": at, "x2": at, "y1": across[0], "y2": across[1]}
        parts.append(tag("line", **line, class_="grid"))
    return Markup("").join(parts)


def labels_below(axis: Axis, y: float, about: int = 5) -> Markup:
    """The labels of a level axis, without those that would run into the one before."""
    parts, free = [], float("-inf")
    for value in axis.ticks(about):
        at, shown = axis.at(value), axis.label(value)
        half = text_width(shown) / 2
        if at - half >= free:
            parts.append(tag("text", shown, x=at, y=y, text_anchor="middle"))
            free = at + half + 4
    return Markup("").join(parts)


def _round_step(rough: float) -> float:
    """1, 2 or 5 times a power of ten, the one nearest by ratio."""
    power = 10.0 ** math.floor(math.log10(rough))
    return min((factor * power for factor in (1, 2, 5, 10)), key=lambda step: abs(math.log(step / rough)))


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [factor * 10.0**decade for decade in decades for factor in (1, 2, 5) if low <= factor * 10.0**decade <= high]
