"""The table at the end of a run, and what it cannot say in a cell."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from perfsuite.protocols import Run
from perfsuite.report.numbers import described
from perfsuite.report.rows import Remark, Row, cell, metrics, remarks, rows, tally, visible
from perfsuite.spec import Status

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

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
_MARKS = {Status.REGRESSED: " !", Status.INCONCLUSIVE: " ?", Status.NO_BASELINE: " !"}
_NARROW = 80  # plain lines of at least this width are not wrapped, so that their text can be searched for
_PLAIN = str.maketrans(  # like characters that every stream can carry
    {"\u2026": "...", "\u2013": "-", "\u2014": "-", "\u2192": "->", "\xd7": "x", "\xb1": "+-", "\xb5": "u",
     "\u2265": ">=", "\u2264": "<=", "\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\xa0": " "}
)  # fmt: skip


def lines(
    run: Run, width: int = 120, colour: bool = False, more: bool = False, encoding: str = "utf-8"
) -> Iterator[str]:
    """A table by case, worst first; one remark for each thing that is no plain PASS; notes.

    ``more`` adds what was measured and not judged. What ``encoding`` cannot carry is written in ASCII.
    Sentences are wrapped for a person (``colour``) and where ``width`` is small; commands never are.
    """
    page = _Page(width, colour, lambda text: _carried(text, encoding))
    found = rows(run)
    if found:
        yield from _table(page, found, metrics(run))
        for remark in remarks(run.verdicts):
            yield ""
            yield from _remark(page, remark)
        yield ""
        if more:
            yield from _information(page, run)
        yield f"{tally(run) or 'nothing was judged'} (limits over {len(found)} cases)"
    for note in run.notes:
        yield from page.prose(note, "")


@dataclass(frozen=True)
class _Page:
    """The stream that is written to. ``fit`` makes foreign text safe, and replaces what the stream cannot show."""

    width: int
    colour: bool
    fit: Callable[[str], str]

    def print(self, what: RenderableType, wrap: bool = True) -> Iterator[str]:
        buffer = io.StringIO()
        self._console(buffer).print(what, soft_wrap=not wrap)
        yield from (line.rstrip() for line in buffer.getvalue().rstrip("\n").split("\n"))

    def prose(self, text: str, indent: str, style: str = "", styled: int = 0) -> Iterator[str]:
        """A sentence; the ``styled`` first characters of it have the style."""
        from rich.padding import Padding
        from rich.text import Text

        content = Text(self.fit(text))
        content.stylize(style, 0, styled)
        if self.colour or self.width < _NARROW:
            yield from self.print(Padding(content, (0, 0, 0, len(indent))))
        else:
            yield from self.print(Text(indent) + content, wrap=False)

    def _console(self, file: io.StringIO) -> Console:
        """With a height, too: without one TERM=dumb overrules the width."""
        from rich.console import Console

        system: Literal["standard"] | None = "standard" if self.colour else None
        return Console(file=file, width=self.width, height=25, force_terminal=self.colour, color_system=system)


def _table(page: _Page, found: list[Row], names: list[str]) -> Iterator[str]:
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    needed = 16 + max(len(row.case) for row in found) + sum(max(len(name), 8) + 2 for name in names)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("verdict", no_wrap=True)
    table.add_column("case", overflow="fold")
    if needed <= page.width:
        for name in names:
            table.add_column(page.fit(name), justify="right")
    for row in found:
        word = Text(row.word, _COLOURS[row.status] if row.status else "")
        cells = [page.fit(cell(row, name, _MARKS)) for name in names]
        case = page.fit(row.case)
        if needed <= page.width:
            table.add_row(word, Text(case), *map(Text, cells))
        else:  # one line for the case, and what was judged below it
            judged = ", ".join(f"{page.fit(name)} {text}" for name, text in zip(names, cells, strict=True) if text)
            table.add_row(word, Group(Text(case, overflow="fold"), Padding(Text(judged), (0, 0, 0, 2))))
    yield from page.print(table)


def _remark(page: _Page, remark: Remark) -> Iterator[str]:
    headline, *rest = remark.lines()
    yield from page.prose(headline, "", _COLOURS[remark.status], len(remark.status.value))
    for line in rest:
        text = line.lstrip()
        indent = line[: len(line) - len(text)]
        if text.startswith("remedy: "):  # to be copied: a terminal wraps it without breaking it
            yield f"{indent}{page.fit(text)}"
        else:
            yield from page.prose(text, indent)


def _information(page: _Page, run: Run) -> Iterator[str]:
    """Each case's numbers that are not judged: percentiles, throughput, memory, where the weights are from."""
    for case, shown in sorted(run.information.items()):
        yield from page.prose(f"{case}: {', '.join(f'{name} {text}' for name, text in described(shown).items())}", "")
    yield ""


def _carried(text: str, encoding: str) -> str:
    """The text as a stream of that encoding can show it: first by like characters, then by escapes."""
    seen = visible(text)
    try:
        seen.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return seen.translate(_PLAIN).encode("ascii", errors="backslashreplace").decode("ascii")
    return seen
