"""A report for a pull request: worst first, details folded."""

from __future__ import annotations

from collections.abc import Iterator

from perfsuite.protocols import Run
from perfsuite.report.rows import metrics, remarks, rows, short, tally


def lines(run: Run) -> Iterator[str]:
    """Markdown. Text from tests and models is escaped, so that it cannot break the table."""
    yield f"## perfsuite: {tally(run) or 'nothing was judged'}"
    yield ""
    names = metrics(run)
    if names:
        yield f"| verdict | case | {' | '.join(names)} |"
        yield f"|{'---|' * (len(names) + 2)}"
    for row in rows(run):
        cells = [", ".join(short(v) for v in row.verdicts if v.metric == name) for name in names]
        yield f"| {row.status.value} | {escape(row.case)} | {' | '.join(map(escape, cells))} |"
    for remark in remarks(run.verdicts):
        headline, *rest = remark.lines()
        yield ""
        yield f"<details><summary>{escape(headline)}</summary>"
        yield ""
        yield from (f"- {escape(line.strip())}" for line in rest)
        yield ""
        yield "</details>"
    yield ""
    yield from (f"- {escape(note)}" for note in run.notes)
    yield f"- machine: {escape(', '.join(f'{name} {value}' for name, value in run.machine.items() if value))}"


def escape(text: str) -> str:
    """Make text safe inside a markdown table cell and HTML."""
    for character, replacement in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "&#124;"), ("\n", " ")):
        text = text.replace(character, replacement)
    for character in "\\`*_[]":
        text = text.replace(character, f"\\{character}")
    return text
