"""Which charts a run has the data for: one group for each model and device. What is not measured is not drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from markupsafe import Markup

from perfsuite.case import FORWARD, ORIGINAL_TECHNIQUE, Case
from perfsuite.protocols import Run
from perfsuite.report.charts.drawings import Interval, Line, Point, bars, intervals, ridges, scatter, shares, steps
from perfsuite.report.charts.svg import LEAST, key
from perfsuite.report.numbers import Number
from perfsuite.report.rows import Row
from perfsuite.spec import Status
from perfsuite.units import Unit

_LINES = 12  # more lines, rows, points or bars than these cannot be told apart
_ROWS = 30
_POINTS = 24
_BARS = 12
_QUALITY = ("accuracy", "accuracy_kept", "agreement", "sqnr")


@dataclass(frozen=True)
class Figure:
    """A chart, what it is called, what to know about it, and the marks of its series."""

    title: str
    note: str
    picture: Markup
    legend: tuple[tuple[Markup, str], ...] = ()


@dataclass(frozen=True)
class Group:
    title: str
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class _Known:
    """A row of the matrix, with the case that its key stands for."""

    of: Case
    row: Row
    series: int  # of its technique, among those of the model

    @property
    def label(self) -> str:
        return f"{self.of.form} b{self.of.batch_size}"

    def number(self, *names: str) -> Number | None:
        """The first of these numbers that the case has."""
        return next((self.row.numbers[name] for name in names if name in self.row.numbers), None)

    def positive(self, *names: str) -> Number | None:
        """The first of these numbers, if it is above zero, as charts of ratios need it."""
        found = self.number(*names)
        return found if found is not None and found.value >= LEAST else None


def groups(found: Iterable[Row]) -> list[Group]:
    """The charts of every model and device, in the order of the rows: the worst first."""
    by_title: dict[str, list[tuple[Case, Row]]] = {}
    for row in found:
        case = Case.parse(row.case)
        if not case.is_callable:
            by_title.setdefault(_title(case), []).append((case, row))
    drawn = [Group(title, _figures(pairs)) for title, pairs in by_title.items()]
    return [group for group in drawn if group.figures]


def _title(case: Case) -> str:
    variant = f" [{case.variant}]" if case.variant else ""
    workload = "" if case.workload == FORWARD else f", {case.workload},"
    return f"{case.model}{variant}{workload} on {case.device}"


def _figures(pairs: Sequence[tuple[Case, Row]]) -> tuple[Figure, ...]:
    """A technique keeps its look in all of them; the original comes first."""
    forms = sorted({case.form for case, _ in pairs}, key=lambda name: (name != ORIGINAL_TECHNIQUE, name))
    cases = [_Known(case, row, forms.index(case.form)) for case, row in pairs]
    return tuple(figure for draw in _FIGURES if (figure := draw(cases)) is not None)


def samples_of(run: Run, found: Iterable[Row], most_bytes: int = 1_200_000) -> dict[str, Markup]:
    """How each case's samples are spread, by block: for the worst cases, as many as a page has room for."""
    drawn: dict[str, Markup] = {}
    for row in found:
        blocks = [block for block in run.samples.get(row.case, ()) if block]
        if blocks:
            drawn[row.case] = ridges(blocks, f"Distribution of the samples in {len(blocks)} blocks")
            most_bytes -= len(drawn[row.case])
        if most_bytes < 0:
            break
    return drawn


def operators_of(run: Run, case: str) -> tuple[Markup, int] | None:
    """Calls of operators that came and went, the most first, and how many operators are not drawn."""
    differences = {name: now - before for name, (before, now) in run.operators.get(case, {}).items() if now != before}
    ordered = sorted(differences.items(), key=lambda change: (-abs(change[1]), change[0]))
    if not ordered:
        return None
    about = "; ".join(f"{name} {change:+}" for name, change in ordered[:_BARS])
    return bars(ordered[:_BARS], f"Operators: {about}"), max(len(ordered) - _BARS, 0)


def pareto(points: Mapping[str, tuple[float, float]]) -> set[str]:
    """The names that no other beats: none has a smaller x and no smaller y, or a larger y and no larger x."""
    front: set[str] = set()
    best = float("-inf")
    last: tuple[float, float] | None = None
    for name, (x, y) in sorted(points.items(), key=lambda point: (point[1][0], -point[1][1])):
        if y > best or (x, y) == last:
            front.add(name)
            best, last = y, (x, y)
    return front


def _throughput(cases: Sequence[_Known]) -> Figure | None:
    lines: dict[str, Line] = {}
    for case in cases:
        number = case.positive("throughput")
        if number:
            point = Point(case.of.batch_size, number.value, f"{case.label}: {number}")
            before = lines.get(case.of.form)
            points = (*before.points, point) if before else (point,)
            lines[case.of.form] = Line(case.series, case.of.form, points)
    if len({point.x for line in lines.values() for point in line.points}) < 2:
        return None
    ordered = sorted(lines.values(), key=lambda line: -max(point.y for point in line.points))
    shown = sorted(ordered[:_LINES], key=lambda line: line.series)
    about = "; ".join(point.about for line in shown for point in line.points)
    picture = steps(shown, "batch size", Unit.PER_SECOND, f"Throughput by batch size: {about}")
    note = "Examples per second; up is better." + _more(ordered, _LINES, "techniques, which are slower,")
    return Figure("Throughput by batch size", note, picture, _legend(shown))


def _speedup(cases: Sequence[_Known]) -> Figure | None:
    found = [interval for case in cases if (interval := _interval(case)) is not None]
    if not found:
        return None
    urgent_first = sorted(found, key=lambda row: (not row.style, -row.value))
    shown = sorted(urgent_first[:_ROWS], key=lambda row: -row.value)
    about = "; ".join(row.about for row in shown)
    note = "Original time / new time in the same processes, with its interval; right of 1x is faster."
    if any(row.bound is not None for row in shown):
        note += " The upright stroke is what was asked for."
    picture = intervals(shown, Unit.RATIO, 1.0, f"Speedup: {about}")
    return Figure("Speedup", note + _more(found, _ROWS, "cases"), picture)


def _interval(case: _Known) -> Interval | None:
    number = case.positive("speedup")
    if number is None:
        return None
    judged = case.row.of("speedup")
    bound = next((verdict.expected for verdict in judged if verdict.limit.startswith(">=")), None)
    between = "" if number.low is None or number.high is None else f" ({number.low:.3g}x to {number.high:.3g}x)"
    asked = f", at least {bound:.3g}x was asked for" if bound else ""
    missed = any(verdict.status is Status.REGRESSED for verdict in judged)
    return Interval(
        case.label, number.value, number.low, number.high, bound or None, "bad" if missed else "",
        f"{case.label}: {number}{between}{asked}{' and missed' if missed else ''}",
    )  # fmt: skip


def _quality(cases: Sequence[_Known]) -> str:
    """The one measure of quality that most of the cases have."""
    counts = {name: sum(case.number(name) is not None for case in cases) for name in _QUALITY}
    return max(counts, key=lambda name: counts[name])


def _trade(cost: str, names: tuple[str, ...], title: str, cases: Sequence[_Known]) -> Figure | None:
    """Quality against a cost, at the smallest batch size that has both, so that like is compared with like."""
    quality = _quality(cases)
    found = [(case, y, x) for case in cases if (y := case.number(quality)) and (x := case.positive(*names))]
    smallest = min((case.of.batch_size for case, _, _ in found), default=0)
    lines = {
        case.of.form: Line(case.series, case.of.form, (Point(x.value, y.value, f"{case.label}: {y} at {x}"),))
        for case, y, x in found
        if case.of.batch_size == smallest
    }
    if len(lines) < 2:
        return None
    front = pareto({name: (line.points[0].x, line.points[0].y) for name, line in lines.items()})
    shown = sorted(lines.values(), key=lambda line: (line.name not in front, line.series))[:_POINTS]
    about = "; ".join(line.points[0].about for line in shown)
    units = (found[0][2].unit, found[0][1].unit)
    picture = scatter(shown, units, f"{cost} at batch size {smallest}", front, f"{title}: {about}")
    word = quality.replace("_", " ")
    note = f"Up: {word}. Left: less {cost}. Ringed: the Pareto front; nothing beats it in both."
    note += _more(lines, _POINTS, "techniques")
    return Figure(f"{word.capitalize()} against {title}", note, picture, _legend(sorted(shown, key=lambda s: s.series)))


def _degradation(cases: Sequence[_Known]) -> Figure | None:
    quality = _quality(cases)
    points: dict[str, dict[float, Point]] = {}
    for case in cases:
        number = case.number(quality)
        if number and case.row.series:
            name, removed = case.row.series
            point = Point(removed, number.value, f"{case.of.form}: {number}")
            points.setdefault(name, {}).setdefault(removed, point)
    start = _start(cases, quality)
    for family, line in points.items():
        if start and "+" not in family:
            line.setdefault(0.0, start)
    drawable = {family: tuple(line.values()) for family, line in points.items() if len(line) >= 2}
    lines = [Line(series, family, line) for series, (family, line) in enumerate(sorted(drawable.items())[:_LINES])]
    if not lines:
        return None
    word = quality.replace("_", " ")
    about = "; ".join(point.about for line in lines for point in line.points)
    picture = shares(lines, "sparsity", _unit(cases, quality), f"{word} by sparsity: {about}")
    note = "By the fraction that the technique removes; 0% is the original." + _more(drawable, _LINES, "techniques")
    return Figure(f"{word.capitalize()} over sparsity", note, picture, _legend(lines))


def _start(cases: Iterable[_Known], quality: str) -> Point | None:
    """The original, where every pruning starts."""
    numbers = (case.number(quality) for case in cases if case.of.form == ORIGINAL_TECHNIQUE)
    found = next(filter(None, numbers), None)
    return Point(0.0, found.value, f"{ORIGINAL_TECHNIQUE}: {found}") if found else None


def _unit(cases: Iterable[_Known], name: str) -> Unit:
    return next(number.unit for case in cases if (number := case.number(name)))


def _legend(lines: Iterable[Line]) -> tuple[tuple[Markup, str], ...]:
    return tuple((key(line.series), line.name) for line in lines)


def _more(what: Sequence[object] | Mapping[str, object], shown: int, noun: str) -> str:
    return f" {len(what) - shown} more {noun} are not drawn." if len(what) > shown else ""


_FIGURES: tuple[Callable[[Sequence[_Known]], Figure | None], ...] = (
    _throughput,
    _speedup,
    partial(_trade, "time", ("p50", "latency"), "speed"),
    partial(_trade, "bytes", ("size",), "size"),
    _degradation,
)
