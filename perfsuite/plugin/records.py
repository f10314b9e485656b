"""Verdicts on their way from an item to the summary: as text on the report, which also crosses xdist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest

from perfsuite.errors import PerfsuiteError
from perfsuite.plugin.matrix import marked_limits
from perfsuite.plugin.state import is_worker, session_of
from perfsuite.report.junit import properties
from perfsuite.report.rows import remarks
from perfsuite.session.record import not_recorded
from perfsuite.session.settings import Judged
from perfsuite.spec import Verdict

_JUDGED = pytest.StashKey[list[Judged]]()
_GATED = pytest.StashKey[bool]()


class Record(msgspec.Struct, frozen=True):
    """What one gate found."""

    verdicts: tuple[Verdict, ...]
    information: dict[str, Any]
    samples_ms: tuple[tuple[float, ...], ...] = ()
    operators: dict[str, tuple[int, int]] = {}


def add(item: pytest.Item, judged: Judged) -> None:
    """Keep it for the report of the item; its numbers are also properties in JUnit's XML."""
    item.stash.setdefault(_JUDGED, []).append(judged)
    item.stash[_GATED] = True
    item.user_properties.extend(properties(judged.verdicts))


def attach(report: pytest.TestReport, item: pytest.Item) -> None:
    """Put the item's records on the report of its call, each once; fail an item whose limits nobody judged."""
    if report.when == "setup":  # a rerun starts anew
        item.stash[_JUDGED], item.stash[_GATED] = [], False
    if report.when != "call":
        return
    if report.passed and not item.stash.get(_GATED, False) and marked_limits(item) and not is_worker():
        report.outcome = "failed"
        report.longrepr = (
            f"{item.nodeid}: its marker has limits, but the test judged nothing\n"
            "  remedy: call perf_case.gate(), perf(...) or benchmark(...)"
        )
    found = _stored(report, item)
    item.stash[_JUDGED] = []
    encoded = [_encode(judged) for judged in found if judged.verdicts]
    report.perfsuite = encoded  # type: ignore[attr-defined]  # reports carry extra attributes, also over xdist


def _stored(report: pytest.TestReport, item: pytest.Item) -> list[Judged]:
    """What the item's gates found, once what they accepted is stored; of a test that has not passed, nothing is."""
    found = item.stash.get(_JUDGED, [])
    try:
        for acceptance in [judged.acceptance for judged in found if judged.acceptance and report.passed]:
            session_of(item.config).record(acceptance)
    except PerfsuiteError as error:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: {error}"
    return found if report.passed else [not_recorded(judged) for judged in found]


def records(reports: Sequence[Any]) -> list[Record]:
    return [
        msgspec.json.decode(text, type=Record)
        for report in reports
        for text in getattr(report, "perfsuite", None) or ()
    ]


def teststatus(report: Any) -> tuple[str, str, tuple[str, Mapping[str, bool]]] | None:
    """A passed item in which something could not be judged is shown as such, and is not green."""
    found = [verdict for record in records([report]) for verdict in record.verdicts]
    if report.passed and not all(verdict.status.is_judged for verdict in found):
        return "partial", "~", ("PARTIAL", {"yellow": True})
    return None


def failure_text(failed: Sequence[Verdict]) -> str:
    """What a failing item says: the sentence, what else changed, the remedy."""
    return "\n".join(line for remark in remarks(failed) for line in remark.lines())


def _encode(judged: Judged) -> str:
    return msgspec.json.encode(
        Record(judged.verdicts, dict(judged.information), judged.samples_ms, dict(judged.operators))
    ).decode()
