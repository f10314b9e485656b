"""The run as one HTML file that needs no network: a table to sort and filter, details folded, charts.

Every text is escaped by the template engine. The page also forbids itself everything but its own style
and script (a content security policy with their digests), so that a text that slipped through stays text.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from perfsuite.protocols import Run
from perfsuite.report.numbers import described
from perfsuite.report.rows import Row, cell, command_in, headline, is_change, metrics, rows, visible
from perfsuite.spec import Status, Verdict

if TYPE_CHECKING:
    import jinja2


@dataclass(frozen=True)
class Cell:
    """What a cell shows, the number that it is sorted by, and the worst verdict in it."""

    text: str
    key: str
    status: Status | None


def lines(run: Run) -> Iterator[str]:
    """A whole page. It imports its charts and the template engine when it is asked for."""
    from perfsuite.report.figures import groups, operators_of, samples_of

    found, names = rows(run), metrics(run)
    style, script = _asset("report.css"), _asset("report.js")
    page = _environment().get_template("report.html").generate(
        run=run, rows=found, metrics=names, headline=headline(run), counts=_counts(found),
        groups=groups(found), cell=_cell, command_in=command_in, described=described,
        samples=samples_of(run, found), operators_of=operators_of, style=style, script=script,
        style_digest=_digest(style), script_digest=_digest(script),
    )  # fmt: skip
    yield from "".join(page).split("\n")


def _counts(found: list[Row]) -> dict[str, int]:
    """Cases by verdict, the worst first."""
    counts = Counter(row.word for row in found)
    return {row.word: counts[row.word] for row in found}


def _cell(row: Row, metric: str) -> Cell:
    judged = row.of(metric)
    worst = min(judged, key=lambda verdict: verdict.status.severity, default=None)
    if worst is None:
        number = None if row.verdicts else row.numbers.get(metric)
        return Cell(cell(row, metric), "" if number is None else repr(number.value), None)
    return Cell(cell(row, metric), _key(worst), worst.status)


def _key(verdict: Verdict) -> str:
    """What a cell is sorted by: the relative change where that is what it shows, else the value."""
    if verdict.measured is None:
        return ""
    if not is_change(verdict) or not verdict.expected:
        return repr(verdict.measured)
    return f"{verdict.measured / verdict.expected - 1:.6g}"


def _environment() -> jinja2.Environment:
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FunctionLoader(_text), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, finalize=_shown,
    )  # fmt: skip


def _shown(value: Any) -> Any:
    """Plain text with control characters made visible. Markup, which is our own, stays as it is."""
    return visible(value) if type(value) is str else value


@cache
def _text(name: str) -> str:
    return files("perfsuite.report").joinpath("templates", name).read_text(encoding="utf-8")


def _asset(name: str) -> Any:
    from markupsafe import Markup

    return Markup(_text(name))


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
