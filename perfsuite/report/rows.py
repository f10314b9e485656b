"""What every reporter starts from: one row for each case, the worst first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from perfsuite.protocols import Run
from perfsuite.spec import Status, Verdict
from perfsuite.units import Unit, format_change, format_difference


@dataclass(frozen=True)
class Row:
    case: str
    verdicts: tuple[Verdict, ...]

    @property
    def status(self) -> Status:
        return min((verdict.status for verdict in self.verdicts), key=lambda status: status.severity)


@dataclass(frozen=True)
class Remark:
    """One sentence that one or more cases and metrics share."""

    status: Status
    sentence: str
    details: tuple[str, ...]
    cases: tuple[str, ...]
    metrics: tuple[str, ...]
    remedies: tuple[str, ...]

    def lines(self, shown: int = 3) -> Iterator[str]:
        """What a person reads: who, what, why, and what to do about it."""
        more = f" and {len(self.cases) - shown} more" if len(self.cases) > shown else ""
        yield f"{self.status.value} {', '.join(self.cases[:shown])}{more}: {', '.join(self.metrics)}"
        yield f"  {self.sentence}"
        yield from (f"    {detail}" for detail in self.details)
        if self.remedies:
            others = " (and likewise the others)" if len(self.remedies) > 1 else ""
            yield f"  remedy: {self.remedies[0]}{others}"


def rows(run: Run) -> list[Row]:
    """Cases with their verdicts, the worst case first, then by name."""
    by_case: dict[str, list[Verdict]] = {}
    for verdict in run.verdicts:
        by_case.setdefault(verdict.case, []).append(verdict)
    found = [Row(case, tuple(verdicts)) for case, verdicts in by_case.items()]
    return sorted(found, key=lambda row: (row.status.severity, row.case))


def metrics(run: Run) -> list[str]:
    """The metrics of a run, in the order in which they first appear."""
    return list(dict.fromkeys(verdict.metric for verdict in run.verdicts))


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
    if verdict.measured is None:
        return "-"
    if verdict.limit.startswith((">=", "<=")):
        return verdict.formatted(verdict.measured)
    if verdict.expected is None or verdict.status is Status.RECORDED:
        return verdict.formatted(verdict.measured)
    if verdict.measured == verdict.expected:
        return "="
    if unit is Unit.FRACTION:
        return format_difference(verdict.measured - verdict.expected, unit)
    return (
        format_change(verdict.measured / verdict.expected) if verdict.expected else verdict.formatted(verdict.measured)
    )


def tally(run: Run) -> str:
    """Limits counted by status, worst first: 12 PASS, 1 REGRESSED."""
    counts = Counter(verdict.status for verdict in run.verdicts)
    return ", ".join(f"{counts[status]} {status.value}" for status in Status if counts[status])
