"""A history as lines of text for a terminal, from 40 columns on, with or without UTF-8. Pure."""

from __future__ import annotations

import difflib
import itertools
import statistics
import string
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from perfsuite import patterns
from perfsuite.errors import UsageError
from perfsuite.history.changes import Change, Series, changes_of, series_of, usual_spread
from perfsuite.history.record import MOST, Row
from perfsuite.stats.blocks import quantile
from perfsuite.units import Unit, format_change, format_value

_HEIGHT = 5  # lines of bars
_NARROWEST = 20
_EIGHTHS, _THIRDS = "▁▂▃▄▅▆▇█", ".:#"
_FENCE = 3.0  # interquartile ranges beyond the quartiles (Tukey 1977): an outlier must not flatten the rest
_MOST_CHANGES = 10  # that are listed below a drawing
_MOST_COMMITS = 3  # that are named beside the most likely first commit of a change
_LEAST_RUNS = 12  # with fewer, even a clear step cannot be told from chance (docs/history.md)
_LETTERS = string.ascii_uppercase + string.ascii_lowercase


def render(case: str, rows: Iterable[Row], width: int = 80, ascii: bool = False) -> Iterator[str]:
    """Every series of a case, or of all cases that match a pattern such as 'encoder-*/int8*'.

    Raises UsageError, with near names, if there is none.
    """
    rows = list(rows)
    wanted = set(matching(case, {row.case for row in rows}))
    found = series_of(row for row in rows if row.case in wanted)
    if not found:
        yield from _folded(f"nothing was measured yet of {', '.join(sorted(wanted))}", width, ascii)
    for number, series in enumerate(found):
        if number:
            yield ""
        yield from lines(series, changes_of(series), width, ascii)


def matching(pattern: str, known: Iterable[str]) -> list[str]:
    """The case of that name, or those that match the pattern. Raises UsageError with near names."""
    names = sorted(known)
    found = patterns.matching(pattern, names)
    if found:
        return found
    if not names:
        raise UsageError(f"no case {pattern!r}: the history is empty", "record a run first")
    parts = [name for name in names if pattern and pattern in name]
    near = (parts or difflib.get_close_matches(pattern, names, n=3, cutoff=0.4))[:3]
    hint = f"did you mean {' or '.join(map(repr, near))}? " if near else f"the first is {names[0]!r}; "
    raise UsageError(
        f"no case {pattern!r} in the history", f"{hint}{len(names)} cases are there, and '*' stands for any text"
    )


def lines(series: Series, changes: Sequence[Change], width: int = 80, ascii: bool = False) -> Iterator[str]:
    """One series: what it is, its runs as bars with each change marked by a letter, and what the letters mean."""
    width = max(width, _NARROWEST)
    for text in _title(series):
        yield from _folded(text, width, ascii)
    axis = _Axis.of(series, changes)
    margin = max(map(len, axis.labels())) + 1
    columns = _columns(len(series.rows), width - margin)
    heights = _drawable(series)
    bars = [axis.cells(statistics.median(heights[a:b]), _THIRDS if ascii else _EIGHTHS) for a, b in columns]
    labels = [axis.labels()[0], *[""] * (_HEIGHT - 2), axis.labels()[1]]
    for label, cells in zip(labels, reversed(list(zip(*bars, strict=True))), strict=True):
        yield f"{label:>{margin - 1}} {''.join(cells)}".rstrip()
    if changes:
        yield " " * margin + _marks(columns, changes)
    yield from _legend(series, changes, width, ascii)


@dataclass(frozen=True)
class _Axis:
    """The values at which bars start and end. The lower one is not 0, since changes of a few percent matter."""

    low: float
    high: float
    unit: str

    @classmethod
    def of(cls, series: Series, changes: Sequence[Change]) -> _Axis:
        """Room for every level between two changes, and for the ordinary noise around it."""
        ends = [0, *(change.index for change in changes), len(series.rows)]
        fences = [_fences(_drawable(series)[start:stop]) for start, stop in itertools.pairwise(ends)]
        low, high = min(low for low, _ in fences), max(high for _, high in fences)
        room = (high - low) * 0.1
        return cls(low - room, high + room, series.unit)

    def labels(self) -> tuple[str, str]:
        """The labels of the upper and the lower end."""
        return _text(self.high, self.unit), _text(self.low, self.unit)

    def cells(self, value: float, steps: str) -> list[str]:
        """One column from below: full blocks, one in part, then nothing. What is outside ends in ^ or v."""
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        marks = max(round(min(max(share, 0), 1) * _HEIGHT * len(steps)), 1)
        full, part = divmod(marks, len(steps))
        cells = [steps[-1]] * full + [steps[part - 1]] * bool(part)
        cells += [" "] * (_HEIGHT - len(cells))
        if share > 1:
            cells[-1] = "^"
        if share < 0:
            cells[0] = "v"
        return cells


def _drawable(series: Series) -> tuple[float, ...]:
    """Values whose differences are finite."""
    return tuple(min(max(value, -MOST), MOST) for value in series.values)


def _fences(values: Sequence[float]) -> tuple[float, float]:
    first, third = (quantile(values, q) for q in (0.25, 0.75))
    reach = _FENCE * (third - first)
    return max(min(values), first - reach), min(max(values), third + reach)


def _columns(runs: int, width: int) -> list[tuple[int, int]]:
    """Which runs each column shows (from, to): one, or more where there are more runs than columns."""
    count = min(runs, width)
    return list(itertools.pairwise(number * runs // count for number in range(count + 1)))


def _marks(columns: Sequence[tuple[int, int]], changes: Sequence[Change]) -> str:
    marks = [" "] * len(columns)
    for letter, change in _lettered(changes):
        marks[next(number for number, (_, stop) in enumerate(columns) if change.index < stop)] = letter
    return "".join(marks).rstrip()


def _lettered(changes: Sequence[Change]) -> Iterator[tuple[str, Change]]:
    return zip(itertools.chain(_LETTERS, itertools.repeat("*")), changes, strict=False)


def _title(series: Series) -> Iterator[str]:
    first, last = series.rows[0], series.rows[-1]
    beside = f" relative to the yardstick {series.yardstick}" if series.yardstick else ""
    runs = f"{len(series.rows)} run{'s' * (len(series.rows) > 1)}"
    yield series.case
    call = f" ({_text(last.p50_ms / 1e3, Unit.SECONDS.value)} a call)" if last.p50_ms else ""
    yield f"{series.metric}{beside}: {_text(series.values[-1], series.unit)}{call} in the last of {runs}"
    yield f"{first.time:%Y-%m-%d} to {last.time:%Y-%m-%d} on {series.machine}"


def _legend(series: Series, changes: Sequence[Change], width: int, ascii: bool) -> Iterator[str]:
    hidden = max(len(changes) - _MOST_CHANGES, 0)
    if hidden:
        yield f"({hidden} earlier changes)"
    for letter, change in list(_lettered(changes))[hidden:]:
        yield from _folded(f"{letter} {_described(change, series.unit)}", width, ascii, indent="  ")
    yield from _folded("; ".join(_remarks(series, changes)), width, ascii)


def _remarks(series: Series, changes: Sequence[Change]) -> Iterator[str]:
    if not changes:
        few = series.is_sampled and len(series.rows) < _LEAST_RUNS
        yield f"fewer than {_LEAST_RUNS} runs: too few to tell a change from noise" if few else "no change found"
    spread = usual_spread(series, changes)
    if spread is not None:
        yield f"runs without a change spread by {spread.sd:.1%} (standard deviation)"


def _described(change: Change, unit: str) -> str:
    step = format_change(change.ratio) if change.ratio is not None else f"from {_text(change.before, unit)}"
    if change.low is not None and change.high is not None:
        step += f" ({format_change(change.low)} to {format_change(change.high)})"
    word = {True: ", worse", False: ", better", None: ""}[change.is_worse]
    levels = f"{_text(change.before, unit)} -> {_text(change.after, unit)}"
    return f"{step}{word}: {levels}, {change.first_after.time:%Y-%m-%d}, {_blamed(change)}"


def _blamed(change: Change) -> str:
    """Names the commits between which a change happened, and the other likely first ones of the new level."""
    old, new = change.last_before.commit, change.first_after.commit
    others = [commit for commit in dict.fromkeys(row.commit for row in change.likely) if commit != new]
    if not others and old == new:
        return f"with {new} on both sides, so not by a commit"
    shown = patterns.first_of(others, _MOST_COMMITS)
    return f"after {old}, by {new}" + (f" (or {shown})" if others else "")


def _text(value: float, unit: str) -> str:
    """A value as reports show it, with enough digits for small steps; the number alone where the unit is unknown."""
    if unit in (Unit.RATIO.value, Unit.COUNT.value):
        return f"{value:.4g}x" if unit == Unit.RATIO.value else f"{value:.8g}"
    return format_value(value, Unit(unit)) if unit in {known.value for known in Unit} else f"{value:.6g}"


def _folded(text: str, width: int, ascii: bool, indent: str = "") -> Iterator[str]:
    """Lines of at most so many columns. What could drive a terminal, or cannot be shown, becomes "?"."""
    from rich.cells import chop_cells

    shown = "".join(letter if letter.isprintable() else "?" for letter in text)
    if ascii:
        shown = shown.encode("ascii", "replace").decode()
    width = max(width, _NARROWEST)
    for line in textwrap.wrap(shown, width, subsequent_indent=indent, break_on_hyphens=False):
        yield from chop_cells(line, width)
