"""A report for a pull request: worst first, details folded, under the size that GitHub takes."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from perfsuite.protocols import Run
from perfsuite.report.rows import (
    NOT_JUDGED,
    Remark,
    Row,
    cell,
    command_in,
    headline,
    metrics,
    remarks,
    rows,
    tally,
    visible,
)
from perfsuite.spec import Status

COMMENT_BYTES = 65_536  # of a comment; GitHub counts characters, and no character is less than a byte
STEP_SUMMARY_BYTES = 2**20  # of a job's step
_RESERVED_BYTES = 1_500  # for the sentences about what was left out, and the lines around the tables
_LONGEST = 200  # characters of a name
_LONGEST_TEXT = 1_500  # of a sentence or a command
_CALM = (Status.PASS, Status.RECORDED)


def lines(run: Run, limit_bytes: int = COMMENT_BYTES) -> Iterator[str]:
    """Markdown. Text from tests and models is escaped, so that it can neither break the table nor call people.

    What does not fit is left out by whole cases and remarks, the worst last, and counted in a sentence.
    """
    found, names = rows(run), metrics(run)
    head = ["<!-- perfsuite -->", f"## {_icon(run)} perfsuite: {headline(run)}", ""]
    if run.verdicts:
        head += [f"{tally(run)} (limits over {len(found)} cases)", ""]
    tail = list(_tail(run))
    header = [f"| verdict | case | {' | '.join(map(escape, names))} |", f"|---|---|{'---:|' * len(names)}"]
    room = limit_bytes - _RESERVED_BYTES - _size([*head, *tail, *header, *header])
    kept = _kept(_pieces(found, names, remarks(run.verdicts)), room)
    yield from head
    yield from _tables([piece for piece in kept if isinstance(piece.about, Row)], header)
    yield from _left_out(found, [piece.about for piece in kept if isinstance(piece.about, Row)])
    for piece in kept:
        if isinstance(piece.about, Remark):
            yield from piece.lines
    yield from _remarks_left_out(len(remarks(run.verdicts)), sum(isinstance(p.about, Remark) for p in kept))
    yield from tail


def escape(text: str) -> str:
    """Make text safe in markdown and in a table's cell, and keep "@name" from calling somebody."""
    text = html.escape(visible(text).replace("\n", " "), quote=False)
    return re.sub(r"([\\`*_\[\]~#])", r"\\\1", text).replace("|", "&#124;").replace("@", "@&#8203;")


def clip(text: str, longest: int = _LONGEST) -> str:
    """Long text without its middle."""
    half = longest // 2
    return text if len(text) <= longest else f"{text[:half]}…{text[-half:]}"


@dataclass(frozen=True)
class _Piece:
    """Lines that are kept, or left out, together."""

    about: Row | Remark
    lines: tuple[str, ...]

    @property
    def rank(self) -> tuple[int, bool]:
        """What is kept first: what fails, then what is remarkable, then the rest; cases before remarks."""
        status = self.about.status
        importance = 2 if status is None or status in _CALM else 0 if status.fails() else 1
        return importance, isinstance(self.about, Remark)


def _pieces(found: Iterable[Row], names: Sequence[str], said: Iterable[Remark]) -> list[_Piece]:
    pieces = [_Piece(row, (_table_row(row, names),)) for row in found]
    pieces += [_Piece(remark, tuple(_fold(remark))) for remark in said]
    return sorted(pieces, key=lambda piece: piece.rank)


def _kept(pieces: Iterable[_Piece], room: int) -> list[_Piece]:
    """As many as fit, in order. No case is kept after the first that does not fit, and no remark likewise."""
    kept, full = [], set()
    for piece in pieces:
        size = _size(piece.lines)
        if type(piece.about) in full or size > room:
            full.add(type(piece.about))
        else:
            kept.append(piece)
            room -= size
    return kept


def _size(written: Iterable[str]) -> int:
    return sum(len(line.encode()) + 1 for line in written)


def _table_row(row: Row, names: Iterable[str]) -> str:
    cells = (escape(clip(cell(row, name))) for name in names)
    return f"| {row.word} | {escape(clip(row.case))} | {' | '.join(cells)} |"


def _tables(kept: Iterable[_Piece], header: list[str]) -> Iterator[str]:
    """What passes is folded away."""
    urgent: list[str] = []
    calm: list[str] = []
    for piece in kept:
        (calm if piece.about.status in _CALM else urgent).extend(piece.lines)
    if urgent:
        yield from (*header, *urgent, "")
    if calm:
        yield f"<details><summary>{len(calm)} {'case passes' if len(calm) == 1 else 'cases pass'}</summary>"
        yield from ("", *header, *calm, "", "</details>", "")


def _left_out(found: Sequence[Row], kept: Sequence[Row | Remark]) -> Iterator[str]:
    names = {row.case for row in kept if isinstance(row, Row)}
    missing = Counter(row.word for row in found if row.case not in names)
    if missing:
        order = [*(status.value for status in Status), NOT_JUDGED]
        counts = ", ".join(f"{missing[word]} {word}" for word in order if missing[word])
        yield (
            f"**{missing.total()} of {len(found)} cases are left out here** ({counts}), because GitHub takes no more "
            "text. All of them are in the HTML and JSON reports."
        )
        yield ""


def _remarks_left_out(said: int, kept: int) -> Iterator[str]:
    if kept < said:
        yield from (f"**{said - kept} of {said} remarks are left out here**, for the same reason.", "")


def _fold(remark: Remark) -> Iterator[str]:
    """One remark: who in the summary, then what, why, and the command that mends it."""
    words, command = command_in(clip(remark.remedies[0], _LONGEST_TEXT)) if remark.remedies else ("", "")
    who = clip(visible(remark.headline().removeprefix(remark.status.value)), 2 * _LONGEST).replace("\n", " ")
    yield f"<details><summary><b>{remark.status.value}</b> <code>{html.escape(who.strip())}</code></summary>"
    yield ""
    yield f"- {_prose(remark.sentence)}"
    yield from (f"- {_prose(detail)}" for detail in remark.details)
    if words:
        yield f"- remedy: {_prose(words + remark.others)}"
    yield ""
    if command:
        yield from ("```sh", visible(command).replace("\n", " "), "```", "")  # in one line it cannot close the block
    yield from ("</details>", "")


def _prose(text: str) -> str:
    """A sentence, which may be longer than a name."""
    return escape(clip(text, _LONGEST_TEXT))


def _tail(run: Run) -> Iterator[str]:
    yield from (f"- {_prose(note)}" for note in run.notes)
    if run.commit or run.created:
        yield f"- {_prose(' '.join(filter(None, ('commit' if run.commit else '', run.commit, run.created))))}"
    machine = ", ".join(f"{name} {value}" for name, value in run.machine.items() if value)
    if machine:
        yield f"- machine: {_prose(machine)}"


def _icon(run: Run) -> str:
    statuses = {verdict.status for verdict in run.verdicts}
    if any(status.fails() for status in statuses):
        return "❌"
    if any(not status.is_judged for status in statuses):
        return "⚠️"
    return "✅" if statuses else "📊"
