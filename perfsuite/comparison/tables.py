"""Tables of a study for people: the same cells as text of 80 columns and as markdown."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perfsuite.comparison.values import Row, Study, percent
from perfsuite.report.markdown import escape
from perfsuite.units import Unit, format_difference, format_value

if TYPE_CHECKING:
    from rich.console import JustifyMethod

    from perfsuite.optimize.measured import Speedup

WIDTH = 80
_SHORTEST_NAME = 12


@dataclass(frozen=True)
class Section:
    """One table: a heading, and cells that are text already; the first column names the row."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: bool = False  # cells are words, and not numbers: to the left


Cell = Callable[[Row], str]
Columns = Sequence[tuple[str, Cell]]


def text(title: str, sections: Iterable[Section], notes: Iterable[str], width: int = WIDTH) -> Iterator[str]:
    """Plain lines of that width: tables, or lists where a table has no room. ASCII only, where the names are."""
    yield from textwrap.wrap(title, width)
    for section in sections:
        room = _room_for_names(section, width)
        yield from ("", section.title, *(_table(section, width, room) if room else _list(section, width)))
    yield ""
    for note in notes:
        yield from textwrap.wrap(note, width, initial_indent="- ", subsequent_indent="  ")


def _room_for_names(section: Section, width: int) -> int:
    """How wide the first column may be; 0 if there is too little room for a table."""
    if section.words:
        return width // 4 if width >= WIDTH - 8 else 0
    columns = list(zip(section.header, *section.rows, strict=True))[1:]
    others = sum(max(len(max(name.split(), key=len)), *map(len, cells)) + 2 for name, *cells in columns)
    return max(width - others, 0) if width - others >= _SHORTEST_NAME else 0


def _table(section: Section, width: int, room: int) -> Iterator[str]:
    """Numbers are never broken; names are, and each is said once."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 1))
    for number, name in enumerate(section.header):
        justify: JustifyMethod = "left" if section.words or not number else "right"
        header = Text(name if section.words else name.replace(" ", "\n"))
        table.add_column(header, justify=justify, overflow="fold", max_width=None if number else room)
    for before, row in zip((("",), *section.rows), section.rows, strict=False):
        table.add_row(*map(Text, ("" if row[0] == before[0] else row[0], *row[1:])))
    buffer = io.StringIO()
    Console(file=buffer, width=width, color_system=None, force_terminal=False).print(table)
    yield from (line.rstrip() for line in buffer.getvalue().splitlines())


def _list(section: Section, width: int) -> Iterator[str]:
    for before, (name, *cells) in zip((("",), *section.rows), section.rows, strict=False):
        if name != before[0]:
            yield from textwrap.wrap(name, width)
        said = ", ".join(f"{head} {cell}" for head, cell in zip(section.header[1:], cells, strict=True) if cell)
        yield from textwrap.wrap(said, width, initial_indent="  ", subsequent_indent="    ")


def markdown(title: str, sections: Iterable[Section], notes: Iterable[str]) -> Iterator[str]:
    """Markdown; text from models is escaped, so that it cannot break a table."""
    yield f"## {escape(title)}"
    for section in sections:
        yield from ("", f"### {escape(section.title)}", "", f"| {' | '.join(map(escape, section.header))} |")
        yield f"|---|{('---|' if section.words else '---:|') * (len(section.header) - 1)}"
        yield from (f"| {' | '.join(map(escape, row))} |" for row in section.rows)
    yield ""
    yield from (f"- {escape(note)}" for note in notes)


def performance(rows: Sequence[Row]) -> Section:
    """What each variant does: latency, throughput, memory, energy."""
    return _section("Performance", rows, _PERFORMANCE)


def relative(study: Study) -> Section:
    """Each variant against the original, at each batch size."""
    return _section("Beside the original", _others(study), _RELATIVE)


def stored(study: Study) -> Section:
    """What does not depend on the batch size: file and accuracy."""
    return _section(
        "File and accuracy", [row for row in study.rows() if row["batch_size"] == study.batch_sizes[0]], _STORED
    )


def energy(study: Study) -> Section:
    """Empty where the machine does not count it."""
    return _section("Energy", [row for row in study.rows() if row.get("energy_j_per_example") is not None], _ENERGY)


def gains(study: Study) -> Section:
    """The engine's gain told apart from the technique's, where some variant runs on another engine."""
    rows = [
        (row["variant"], str(row["batch_size"]), what, f"{_value(name, Unit.RATIO)(row)} ({_interval(name)(row)})")
        for row in (_others(study) if any(p.engine != study.original.engine for p in study.profiles) else ())
        for what, name in (("all", "speedup"), ("the engine", "engine_gain"), ("the technique", "technique_gain"))
        if row.get(name) is not None
    ]
    return Section(
        "Speedup, by what it comes from", ("variant", "batch", "gain of", "speedup"), tuple(rows), words=True
    )


def ledger(study: Study) -> Section:
    """The honesty ledger: claimed, stored, realized."""
    rows = [
        (
            entry["variant"],
            claimed(entry["claimed"], entry["touched"]),
            _stored_text(entry["stored"]),
            _realized(entry["realized"]),
        )
        for entry in study.ledger()
    ]
    return Section("Ledger", ("variant", "claimed", "stored in the file", "realized speedup"), tuple(rows), words=True)


def failed(study: Study) -> Section:
    """The variants that could not be made or called, and why."""
    return Section("Not measured", ("variant", "why"), tuple(study.failed.items()), words=True)


def claimed(claims: Mapping[str, float], touched: Mapping[str, float] | None = None) -> str:
    """What a technique promises, in words, and for which fraction of the weights' bytes, where that is not all."""
    parts: dict[float, list[str]] = {}
    for key, value in claims.items():
        said = _CLAIMS[key](value) if key in _CLAIMS else f"{key} {value:g}"
        parts.setdefault(round((touched or {}).get(key, 1.0), 2), []).append(said)
    return ", ".join(", ".join(said) + _of_bytes(share) for share, said in parts.items()) or "-"


def _of_bytes(share: float) -> str:
    return "" if share == 1 else f" (of {percent(share)} of the bytes)"


def _others(study: Study) -> list[Row]:
    return [row for row in study.rows() if row["variant"] != study.original.variant]


def _section(title: str, rows: Sequence[Row], columns: Columns) -> Section:
    """Columns that are empty in every row are left out."""
    cells = [[cell(row) for _, cell in columns] for row in rows]
    kept = [number for number, _ in enumerate(columns) if any(row[number] for row in cells)]
    return Section(title, tuple(columns[n][0] for n in kept), tuple(tuple(row[n] for n in kept) for row in cells))


def _cell(key: str, told: Callable[[Any], str] = str) -> Cell:
    """What a row has under that key, in words; empty where nobody knows it."""
    return lambda row: "" if row.get(key) is None else told(row[key])


def _value(key: str, unit: Unit, factor: float = 1) -> Cell:
    return _cell(key, lambda value: format_value(value * factor, unit))


def _interval(key: str) -> Cell:
    low, high = _value(f"{key}_low", Unit.RATIO), _value(f"{key}_high", Unit.RATIO)
    return lambda row: f"{low(row)} to {high(row)}" if low(row) else ""


def _flips(row: Row) -> str:
    if row.get("accuracy_change") is None:
        return ""
    change = format_difference(row["accuracy_change"], Unit.FRACTION)
    return f"{change}: {row['examples_lost']} lost, {row['examples_won']} won"


def _stored_text(entry: Row) -> str:
    if entry["size_bytes"] is None:
        return "no file"
    smaller = format_value(entry["compression"], Unit.RATIO) + " smaller" if entry["compression"] else "a file"
    return f"{smaller}, {percent(entry['sparsity'])} zeros"


def _realized(speedups: dict[int, Speedup | None]) -> str:
    return "\n".join(f"batch {size}: {speedup}" for size, speedup in speedups.items() if speedup)


_CLAIMS: Mapping[str, Callable[[float], str]] = {
    "sparsity": lambda value: f"{percent(value)} of weights zero",
    "heads": lambda value: f"{percent(value)} of heads gone",
    "units": lambda value: f"{percent(value)} of units gone",
    "bits": lambda value: f"{value:g}-bit weights",
    "speedup": lambda value: f"{format_value(value, Unit.RATIO)} faster",
    "compression": lambda value: f"{format_value(value, Unit.RATIO)} smaller",
}
_NAME: tuple[tuple[str, Cell], ...] = (("variant", _cell("variant")),)
_EACH = (*_NAME, ("batch", _cell("batch_size")))
_PERFORMANCE: Columns = (
    *_EACH,
    ("p50", _value("p50_ms", Unit.SECONDS, 1e-3)),
    ("p90", _value("p90_ms", Unit.SECONDS, 1e-3)),
    ("p99", _value("p99_ms", Unit.SECONDS, 1e-3)),
    ("examples", _value("examples_per_s", Unit.PER_SECOND)),
    ("memory", _value("peak_memory_bytes", Unit.BYTES)),
    ("GPU memory", _value("accelerator_peak_bytes", Unit.BYTES)),
)
_RELATIVE: Columns = (
    *_EACH,
    ("speedup", _value("speedup", Unit.RATIO)),
    ("95% interval", _interval("speedup")),
    ("memory saved", _cell("memory_saved", percent)),
    ("SQNR", _value("sqnr_db", Unit.DECIBEL)),
    ("same answer", _cell("agreement", percent)),
)
_ENERGY: Columns = (
    *_EACH,
    ("energy of one example", _cell("energy_j_per_example", lambda joules: f"{joules:.3g} J")),
    ("less energy", _value("energy_gain", Unit.RATIO)),
    ("95% interval", _interval("energy_gain")),
)
_STORED: Columns = (
    *_NAME,
    ("file", _value("size_bytes", Unit.BYTES)),
    ("smaller", _value("compression", Unit.RATIO)),
    ("zeros", _cell("sparsity", percent)),
    ("accuracy", _cell("accuracy", percent)),
    ("change of accuracy", _flips),
)
