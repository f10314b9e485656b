"""Verdicts on their way from an item to the summary: as text on the report, which also crosses xdist."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import pytest

from perfsuite.errors import PerfsuiteError
from perfsuite.plugin.matrix import marked_limits
from perfsuite.plugin.sessions import session_of
from perfsuite.plugin.state import is_worker
from perfsuite.report.junit import properties
from perfsuite.report.rows import remarks
from perfsuite.session.record import not_recorded
from perfsuite.session.settings import Judged
from perfsuite.spec import Verdict

_JUDGED = pytest.StashKey["_Judgements"]()


class Record(msgspec.Struct, frozen=True):
    """What one gate found: the gates of a test are counted, and the runs of the test."""

    verdicts: tuple[Verdict, ...]
    information: dict[str, Any]
    samples_ms: tuple[tuple[float, ...], ...] = ()
    operators: dict[str, tuple[int, int]] = {}
    gate: int = 1
    run: int = 1
    again: bool = False  # whether an earlier run of the test found it


@dataclass
class _Judgements:
    """What the gates of one item have found: in its present run, and by their numbers in all of its runs."""

    runs: int = 0
    gates: int = 0
    found: dict[int, Judged] = field(default_factory=dict)
    unreported: dict[int, Judged] = field(default_factory=dict)
    known: dict[tuple[int, str, str], Judged] = field(default_factory=dict)
    call: pytest.TestReport | None = None


def begin_run(item: pytest.Item) -> None:
    """The item is run, perhaps again: its gates are counted from the first."""
    judgements = _judgements(item)
    judgements.runs, judgements.gates = judgements.runs + 1, 0
    judgements.found, judgements.unreported = {}, {}


def _judgements(item: pytest.Item) -> _Judgements:
    return item.stash.setdefault(_JUDGED, _Judgements())


def judge_once(item: pytest.Item, case: str, limits: Mapping[str, object], judge: Callable[[], Judged]) -> Judged:
    """What the gate finds, or has found when the item ran before.

    Measured again, a regression would have another chance to pass, and the session's error would be spent twice.
    """
    judgements = _judgements(item)
    judgements.gates += 1
    key = (judgements.gates, case, repr(sorted(limits.items())))
    known = None if is_worker() else judgements.known.get(key)
    judged = replace(known, again=True) if known else judge()
    judgements.found[judgements.gates] = judgements.unreported[judgements.gates] = judged
    if not known:
        judgements.known[key] = judged
        item.user_properties.extend(properties(judged.verdicts))  # in JUnit's XML
    return judged


def attach(report: pytest.TestReport, item: pytest.Item) -> None:
    """Put the item's records on the report of its call, each once; fail an item whose limits nobody judged.

    What is left goes on the teardown's: pytest-retry runs a test again without a report of its own.
    """
    judgements = _judgements(item)
    if report.when == "call":
        judgements.call = report
        if report.passed and not judgements.found and marked_limits(item) and not is_worker():
            report.outcome = "failed"
            report.longrepr = (
                f"{item.nodeid}: its marker has limits, but the test judged nothing\n"
                "  remedy: call perf_case.gate(), perf(...) or benchmark(...)"
            )
    if judgements.call is not None and (report.when == "call" or judgements.unreported):
        found = _stored(judgements.call, item, judgements.unreported)
        encoded = [_encode(judged, gate, judgements.runs) for gate, judged in found.items() if judged.verdicts]
        judgements.unreported = {}
        report.perfsuite = encoded  # type: ignore[attr-defined]  # reports carry extra attributes, also over xdist


def _stored(call: pytest.TestReport, item: pytest.Item, found: Mapping[int, Judged]) -> Mapping[int, Judged]:
    """What the item's gates found, once what they accepted is stored; of a test that has not passed, nothing is."""
    try:
        for acceptance in [judged.acceptance for judged in found.values() if judged.acceptance and call.passed]:
            session_of(item.config).record(acceptance)
    except PerfsuiteError as error:
        call.outcome = "failed"
        call.longrepr = f"{item.nodeid}: {error}"
    return found if call.passed else {gate: not_recorded(judged) for gate, judged in found.items()}


def records(reports: Iterable[Any]) -> list[Record]:
    """What each gate has found, once: where a test ran again, as its last run has it."""
    found: dict[tuple[object, str, int], Record] = {}
    for report, record in _all_records(reports):
        key = (getattr(report, "node", None), report.nodeid, record.gate)
        if key not in found or found[key].run < record.run:
            found[key] = record
    return list(found.values())


def run_again(reports: Iterable[Any]) -> list[str]:
    """The tests that ran again after they were judged."""
    return sorted({report.nodeid for report, record in _all_records(reports) if record.again})


def _all_records(reports: Iterable[Any]) -> Iterator[tuple[Any, Record]]:
    for report in reports:
        for text in getattr(report, "perfsuite", None) or ():
            yield report, msgspec.json.decode(text, type=Record)


def teststatus(report: Any) -> tuple[str, str, tuple[str, Mapping[str, bool]]] | None:
    """A passed item in which something could not be judged is shown as such, and is not green."""
    found = [verdict for record in records([report]) for verdict in record.verdicts]
    if report.passed and not all(verdict.status.is_judged for verdict in found):
        return "partial", "~", ("PARTIAL", {"yellow": True})
    return None


def failure_text(failed: Sequence[Verdict], again: bool = False) -> str:
    """What a failing item says: the sentence, what else changed, the remedy."""
    lines = [line for remark in remarks(failed) for line in remark.lines()]
    return "\n".join([*lines, _AGAIN] if again else lines)


_AGAIN = "this is the verdict of the test's first run: a case is judged once in a session, however often its test runs"


def _encode(judged: Judged, gate: int, run: int) -> str:
    found = (judged.verdicts, dict(judged.information), judged.samples_ms, dict(judged.operators))
    return msgspec.json.encode(Record(*found, gate=gate, run=run, again=judged.again)).decode()
