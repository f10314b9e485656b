"""What a baseline file holds. One file is one JSON object; its version stands first.

History of the version:
    1   first: portable exact metrics and operators, scores per task, time per machine class; later, where
        there are any: of a case, digests of its parameters.

Every struct is frozen and strict: a field that this version does not know is an error, not ignored.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from perfsuite.baseline.machine import Machine

VERSION = 1

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


class StoredTime(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Time on one machine class: log ratios to a reference workload, one from each fresh process, and a summary."""

    commit: str
    yardstick: Name
    log_ratios: Annotated[tuple[LogRatio, ...], msgspec.Meta(min_length=1)]
    p50_ms: Duration
    p90_ms: Duration | None = None  # not known of an imported time
    p99_ms: Duration | None = None


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that is stored of one case; ``time`` by machine id; ``of`` says what the case is, beyond its key."""

    exact: StoredExact | None = None
    scores: StoredScores | None = None
    time: dict[Name, StoredTime] = {}
    of: dict[Name, Name] = {}


class BaselineFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int = VERSION
    machines: dict[Name, Machine] = {}
    cases: dict[Name, Entry] = {}


def pack_bits(correct: tuple[bool, ...]) -> str:
    """The hexadecimal form that ``StoredScores.bits`` reads; the last digit is padded with zeros."""
    width = -(-len(correct) // 4) * 4
    binary = "".join("1" if bit else "0" for bit in correct).ljust(width, "0")
    return f"{int(binary, 2):0{width // 4}x}"
