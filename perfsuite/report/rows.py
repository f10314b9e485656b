"""What every reporter starts from: one row for each case, the worst first."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from perfsuite.protocols import Run
from perfsuite.report.numbers import Number, numbers, series_of
from perfsuite.spec import Status, Verdict
from perfsuite.units import Unit, format_change, format_difference

NOT_JUDGED = "measured"
_COMPARED = ("p50", "throughput", "speedup", "size", "compression", "peak_memory", "accuracy", "sparsity")
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


@dataclass(frozen=True)
class Row:
    """One case: its verdicts (none where it was measured and not judged), and its numbers by metric.

    ``series``: what the technique is called without the fraction that it removes, and that fraction.
    """

    case: str
    verdicts: tuple[Verdict, ...]
    numbers: Mapping[str, Number] = field(default_factory=dict)
    series: tuple[str, float] | None = None

    @property
    def status(self) -> Status | None:
        return min((verdict.status for verdict in self.verdicts), key=lambda status: status.severity, default=None)

    @property
    def severity(self) -> int:
        """0 is the worst; what was not judged comes last."""
        return len(Status) if self.status is None else self.status.severity

    @property
    def word(self) -> str:
        return NOT_JUDGED if self.status is None else self.status.value

    def of(self, metric: str) -> tuple[Verdict, ...]:
        return tuple(verdict for verdict in self.verdicts if verdict.metric == metric)


@dataclass(frozen=True)
class Remark:
    """One sentence that one or more cases and metrics share."""

    status: Status
    sentence: str
    details: tuple[str, ...]
    cases: tuple[str, ...]
    metrics: tuple[str, ...]
    remedies: tuple[str, ...]

    def headline(self, shown: int = 3) -> str:
        more = f" and {len(self.cases) - shown} more" if len(self.cases) > shown else ""
        return f"{self.status.value} {', '.join(self.cases[:shown])}{more}: {', '.join(self.metrics)}"

    def lines(self, shown: int = 3) -> Iterator[str]:
        """What a person reads: who, what, why, and what to do about it."""
        yield self.headline(shown)
        yield f"  {self.sentence}"
        yield from (f"    {detail}" for detail in self.details)
        if self.remedies:
            yield f"  remedy: {self.remedies[0]}"  # which may end in a command, to be copied to the line's end
        if self.others:
            yield f" {self.others}"

    @property
    def others(self) -> str:
        return " (and likewise the others)" if len(self.remedies) > 1 else ""


def rows(run: Run) -> list[Row]:
    """Cases with their verdicts, the worst case first, then by name; then those that were only measured."""
    by_case: dict[str, list[Verdict]] = {}
    for verdict in run.verdicts:
        by_case.setdefault(verdict.case, []).append(verdict)
    judged = {case: tuple(by_case.get(case, ())) for case in (*by_case, *run.information)}
    found = [Row(case, of, numbers(run, case, of), series_of(run, case)) for case, of in judged.items()]
    return sorted(found, key=lambda row: (row.severity, _natural(row.case)))


def _natural(name: str) -> list[list[tuple[int, str]]]:
    """A key that puts b8 before b32, and a model before those whose names begin like its own."""
    segments = (re.split(r"(\d{1,18})", segment) for segment in name.split("/"))
    return [[(int(part), "") if i % 2 else (-1, part) for i, part in enumerate(parts)] for parts in segments]


def metrics(run: Run) -> list[str]:
    """The columns: judged metrics in the order in which they first appear, then those only measured."""
    judged = dict.fromkeys(verdict.metric for verdict in run.verdicts)
    cases = {verdict.case for verdict in run.verdicts}
    unjudged = [numbers(run, case) for case in run.information if case not in cases]
    measured = [name for name in _COMPARED if any(name in found for found in unjudged)]
    return list(judged | dict.fromkeys(measured))


def cell(row: Row, metric: str, marks: Mapping[Status, str] | None = None) -> str:
    """All limits of one metric in a few characters; of a case that was not judged, the number itself."""
    judged = ", ".join(short(verdict) + (marks or {}).get(verdict.status, "") for verdict in row.of(metric))
    return judged or (str(row.numbers[metric]) if not row.verdicts and metric in row.numbers else "")


def remarks(verdicts: Iterable[Verdict]) -> list[Remark]:
    """Everything that is not a plain PASS, worst first; the same words for many cases are said once."""
    grouped: dict[tuple[Status, str, tuple[str, ...]], list[Verdict]] = {}
    for verdict in verdicts:
        if verdict.status not in (Status.PASS, Status.RECORDED):
            grouped.setdefault((verdict.status, verdict.sentence, verdict.details), []).append(verdict)
    found = [_remark(group) for group in grouped.values()]
    return sorted(found, key=lambda remark: remark.status.severity)


def _remark(group: list[Verdict]) -> Remark:
    """One remark from verdicts that say the same; order is kept, repetitions are not."""

    def distinct(values: Iterable[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(value for value in values if value))

    return Remark(
        group[0].status, group[0].sentence, group[0].details, distinct(v.case for v in group),
        distinct(v.metric for v in group), distinct(v.remedy for v in group),
    )  # fmt: skip


def short(verdict: Verdict) -> str:
    """A verdict in a few characters for a table: "+1.2%", "=", "1.93x", "-0.2pp"."""
    unit = Unit(verdict.unit)
    if verdict.proven:
        return verdict.proven
    if verdict.measured is None:
        return "-"
    if not is_change(verdict) or verdict.expected is None:
        return verdict.formatted(verdict.measured)
    if verdict.measured == verdict.expected:
        return "="
    if unit is Unit.FRACTION:
        return format_difference(verdict.measured - verdict.expected, unit)
    return (
        format_change(verdict.measured / verdict.expected) if verdict.expected else verdict.formatted(verdict.measured)
    )


def is_change(verdict: Verdict) -> bool:
    """Whether the change from what was expected is the thing to show, and not the value itself."""
    bound = verdict.limit.startswith((">=", "<="))
    return not bound and verdict.expected is not None and verdict.status is not Status.RECORDED


def tally(run: Run) -> str:
    """Limits counted by status, worst first: 12 PASS, 1 REGRESSED."""
    counts = Counter(verdict.status for verdict in run.verdicts)
    proven = sum(1 for verdict in run.verdicts if verdict.proven)
    untimed = f" ({proven} of them proven, not timed)" if proven else ""
    return ", ".join(f"{counts[status]} {status.value}" for status in Status if counts[status]) + untimed


def headline(run: Run) -> str:
    """The run in one sentence: its worst news first."""
    counts, total = Counter(verdict.status for verdict in run.verdicts), len(run.verdicts)
    unjudged = sum(count for status, count in counts.items() if not status.is_judged)
    limits = f"of {total} limits" if total > 1 else "limit"
    if not total:
        return f"{len(run.information)} cases measured" if run.information else "nothing was judged"
    if counts[Status.REGRESSED]:
        return f"{counts[Status.REGRESSED]} {limits} regressed"
    if counts[Status.NO_BASELINE]:
        return f"{counts[Status.NO_BASELINE]} {limits} without a baseline"
    if unjudged:
        return f"{unjudged} {limits} could not be judged"
    return f"all {total} limits hold" if total > 1 else "the limit holds"


def command_in(remedy: str) -> tuple[str, str]:
    """A remedy as words and the command that they end in ("" where there is none), to copy it from a report."""
    words, colon, command = remedy.partition(": ")
    return (words + colon.rstrip(), command) if command.startswith("pytest ") else (remedy, "")


def visible(text: str) -> str:
    """Control characters, lone surrogates and marks that reorder text, written out as escapes."""
    return _UNSEEN.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)
