"""What a baseline file holds. One file is one JSON object; its version stands first.

History of the version:
    1   first: portable exact metrics and operators, scores per task, time per machine class; later, where
        there are any: of a case, digests of its parameters; counts, values per example and samples of other metrics
        than operators, accuracy and time, for which these have fields of their own.

Every struct is frozen and strict: a field that this version does not know is an error, not ignored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

import msgspec

from perfsuite.baseline.machine import Machine
from perfsuite.metric import Scores

VERSION = 1
OPERATORS, ACCURACY = "operators", "accuracy"  # the metrics of the fields that are as old as the version

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
# Bounds far beyond all that is real, and well within what can be computed with: a file may hold anything.
Count = Annotated[int, msgspec.Meta(ge=0, le=10**15)]
Whole = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Real = Annotated[float, msgspec.Meta(ge=-1e100, le=1e100)]
Duration = Annotated[float, msgspec.Meta(ge=1e-12, le=1e12)]  # milliseconds
LogRatio = Annotated[float, msgspec.Meta(ge=-50, le=50)]


class StoredExact(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Portable: the same on any machine whose context is equal."""

    commit: str
    torch: str
    kernels: str
    metrics: dict[Name, Whole | Real]
    operators: dict[Name, Count] = {}
    counts: dict[Name, dict[Name, Count]] = {}  # by metric

    @staticmethod
    def of(
        commit: str, torch: str, kernels: str,
        metrics: Mapping[str, int | float], by_metric: Mapping[str, Mapping[str, int]],
    ) -> StoredExact:  # fmt: skip
        counts = {name: dict(counted) for name, counted in by_metric.items()}
        return StoredExact(commit, torch, kernels, dict(metrics), counts.pop(OPERATORS, {}), counts)

    def by_metric(self) -> dict[str, dict[str, int]]:
        """How often each thing was counted, by metric."""
        return {**({OPERATORS: self.operators} if self.operators else {}), **self.counts}


class StoredScores(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Portable: correctness per example. ``correct`` is a bit for each example, as hexadecimal."""

    commit: str
    task: Name
    examples: str
    count: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)]
    correct: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]+(?!\n)$")]

    def __post_init__(self) -> None:
        if len(self.correct) != -(-self.count // 4):
            raise ValueError(f"{self.count} examples need {-(-self.count // 4)} hexadecimal digits in 'correct'")

    def bits(self) -> tuple[bool, ...]:
        binary = f"{int(self.correct, 16):0{len(self.correct) * 4}b}"
        return tuple(bit == "1" for bit in binary[: self.count])

    @property
    def scores(self) -> Scores:
        return Scores(self.task, self.examples, self.bits())


class StoredValues(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Portable: a number for each example, in full, with spaces between them."""

    commit: str
    task: Name
    examples: str
    values: Annotated[str, msgspec.Meta(min_length=1, pattern=r"^[0-9.e+-]+( [0-9.e+-]+)*(?!\n)$")]

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, self.scores.values)):  # which raises ValueError for what is no number
            raise ValueError("'values' holds a number that is not finite")

    @property
    def scores(self) -> Scores:
        return Scores(self.task, self.examples, tuple(map(float, self.values.split(" "))))


class StoredTime(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Time on one machine class: log ratios to a reference workload, one from each fresh process, and a summary."""

    commit: str
    yardstick: Name
    log_ratios: Annotated[tuple[LogRatio, ...], msgspec.Meta(min_length=1)]
    p50_ms: Duration
    p90_ms: Duration | None = None  # not known of an imported time
    p99_ms: Duration | None = None


class StoredSamples(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One machine class and one quantity, as ``StoredTime`` is of time; ``typical`` in the metric's base unit."""

    commit: str
    yardstick: Name
    log_ratios: Annotated[tuple[LogRatio, ...], msgspec.Meta(min_length=1)]
    typical: Annotated[float, msgspec.Meta(gt=0, le=1e100)]  # of one call: the median over processes


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that is stored of one case; ``time`` by machine id; ``of`` says what the case is, beyond its key.

    ``flags`` and ``numbers`` by metric, ``sampled`` by machine id and metric: of metrics that have no older field.
    """

    exact: StoredExact | None = None
    scores: StoredScores | None = None
    time: dict[Name, StoredTime] = {}
    of: dict[Name, Name] = {}
    flags: dict[Name, StoredScores] = {}
    numbers: dict[Name, StoredValues] = {}
    sampled: dict[Name, dict[Name, StoredSamples]] = {}

    @staticmethod
    def optional_fields() -> tuple[str, ...]:
        """Those that are left out of a file where they are empty, as most are."""
        return ("of", "flags", "numbers", "sampled")

    def all_flags(self) -> dict[str, StoredScores]:
        return {**({ACCURACY: self.scores} if self.scores else {}), **self.flags}

    def per_example(self) -> dict[str, Scores]:
        """A value for each example, by metric."""
        found = {name: stored.scores for name, stored in self.all_flags().items()}
        return {**found, **{name: stored.scores for name, stored in self.numbers.items()}}

    def samples(self, quantity: str) -> dict[str, StoredSamples]:
        """What is stored of one sampled quantity, by machine id."""
        if quantity:
            return {machine: found[quantity] for machine, found in self.sampled.items() if quantity in found}
        return {
            machine: StoredSamples(time.commit, time.yardstick, time.log_ratios, time.p50_ms / 1e3)
            for machine, time in self.time.items()
        }


class BaselineFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int = VERSION
    machines: dict[Name, Machine] = {}
    cases: dict[Name, Entry] = {}


def pack_bits(correct: tuple[bool, ...]) -> str:
    """The hexadecimal form that ``StoredScores.bits`` reads; the last digit is padded with zeros."""
    width = -(-len(correct) // 4) * 4
    binary = "".join("1" if bit else "0" for bit in correct).ljust(width, "0")
    return f"{int(binary, 2):0{width // 4}x}"
