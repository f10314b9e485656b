"""The table at the end of a run, and what it cannot say in a cell."""

from __future__ import annotations

import io
from collections.abc import Iterator

from perfsuite.protocols import Run
from perfsuite.report.rows import Row, metrics, remarks, rows, short, tally
from perfsuite.spec import Status

_COLOURS = {
    Status.REGRESSED: "bold red",
    Status.NO_BASELINE: "red",
    Status.INCONCLUSIVE: "yellow",
    Status.INCOMPARABLE: "yellow",
    Status.NOT_MEASURED: "yellow",
    Status.IMPROVED: "cyan",
    Status.PASS: "green",
    Status.RECORDED: "cyan",
}


def lines(run: Run, width: int = 120, colour: bool = False, more: bool = False) -> Iterator[str]:
    """A table by case, worst first; one remark for each thing that is no plain PASS; notes.

    ``more`` adds what was measured and not judged.
    """
    if run.verdicts:
        yield from _table(run, width, colour)
        yield from _remarks(run)
        if more:
            yield from _information(run)
        yield f"{tally(run)} (limits over {len(rows(run))} cases)"
    yield from run.notes


def _table(run: Run, width: int, colour: bool) -> Iterator[str]:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    names, found = metrics(run), rows(run)
    needed = 16 + max(len(row.case) for row in found) + sum(max(len(name), 8) + 2 for name in names)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("verdict", no_wrap=True)
    table.add_column("case", overflow="fold")
    if needed <= width:
        for name in names:
            table.add_column(name, justify="right")
    for row in found:
        status, cells = Text(row.status.value, _COLOURS[row.status]), [_cell(row, name) for name in names]
        if needed <= width:
            table.add_row(status, Text(row.case), *map(Text, cells))
        else:  # one line for the case, and what was judged below it
            judged = ", ".join(f"{name} {cell}" for name, cell in zip(names, cells, strict=True) if cell)
            table.add_row(status, Text(f"{row.case}\n  {judged}"))
    buffer = io.StringIO()
    console = Console(file=buffer, width=width, force_terminal=colour, color_system="standard" if colour else None)
    console.print(table)
    yield from (line.rstrip() for line in buffer.getvalue().splitlines())


def _cell(row: Row, metric: str) -> str:
    """All limits of one metric; what is no PASS is marked."""
    marks = {Status.REGRESSED: " !", Status.INCONCLUSIVE: " ?", Status.NO_BASELINE: " !"}
    return ", ".join(short(v) + marks.get(v.status, "") for v in row.verdicts if v.metric == metric)


def _remarks(run: Run) -> Iterator[str]:
    for remark in remarks(run.verdicts):
        yield ""
        yield from remark.lines()
    yield ""


def _information(run: Run) -> Iterator[str]:
    """Each case's numbers that are not judged: percentiles, throughput, memory, where the weights are from."""
    for case, shown in sorted(run.information.items()):
        yield f"{case}: {', '.join(f'{name} {_text(value)}' for name, value in shown.items())}"
    yield ""


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
