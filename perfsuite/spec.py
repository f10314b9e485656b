"""The nouns: frozen values that walk from one box to the next. No torch, no pytest, no I/O.

    Case -> Block -> Facts -> Evidence --+
                                         +--> Verdict
                    Limit ---------------+

Units are in the names: ``_ns`` nanoseconds, ``_s`` seconds, ``_bytes`` bytes; fractions are 0 to 1.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property
from typing import Annotated

import msgspec

from perfsuite.case import Case
from perfsuite.errors import UsageError
from perfsuite.metric import ELAPSED, Sampled
from perfsuite.metric import Against as Against
from perfsuite.metric import Direction as Direction
from perfsuite.metric import Kind as Kind
from perfsuite.metric import Metric as Metric
from perfsuite.metric import Scores as Scores
from perfsuite.units import Unit, format_value

CANDIDATE = "candidate"
ORIGINAL = "original"
YARDSTICK = "yardstick"
SECOND = "second"  # the yardstick of a time that was stored without one
BASE = "base"  # the candidate as a base revision has it
SAME_FILES, SAME_PROGRAM = "same files", "same program"  # how it is proven that a change cannot matter


class LimitKind(Enum):
    RELATIVE = "relative"  # "5%": may be worse than the reference by this fraction of it
    ABSOLUTE = "absolute"  # "64 MB", "0.5pp": may be worse than the reference by this much
    AUTOMATIC = "auto"  # of a time: as tight as the known spread allows
    AT_LEAST = ">="  # ">=1.5": must reach this, whatever the baseline says
    AT_MOST = "<="  # "<=64 MB": must not exceed this


@dataclass(frozen=True)
class Limit:
    """What is tolerated of one metric."""

    metric: Metric
    kind: LimitKind
    value: float
    text: str

    @property
    def is_bound(self) -> bool:
        return self.kind in (LimitKind.AT_LEAST, LimitKind.AT_MOST)

    @property
    def is_sampled(self) -> bool:
        return isinstance(self.metric.probe, Sampled)

    @property
    def is_tolerance(self) -> bool:
        """Whether it needs something accepted to be judged against: bounds and relations stand for themselves."""
        return self.metric.against is Against.BASELINE and not self.is_bound

    def __str__(self) -> str:
        return f"{self.metric.name} {self.text}"


@dataclass(frozen=True)
class Chunk:
    """Back-to-back calls of one arm, without the first one of the chunk if that was dropped.

    ``counted``: what the chunk has used of other quantities, for one call, in their base units. ``dropped_ns``: of
    the call that was dropped, 0 if none was.
    """

    arm: str
    calls_ns: tuple[float, ...]
    counted: Mapping[str, float] = field(default_factory=dict)
    dropped_ns: float = 0.0

    @cached_property
    def median_ns(self) -> float:
        return statistics.median(self.calls_ns)

    def amount(self, quantity: str = ELAPSED) -> float:
        """For one call: nanoseconds (the median), or what another counter gave."""
        return self.counted[quantity] if quantity else self.median_ns


@dataclass(frozen=True)
class Block:
    """Every arm sampled alternately in one process. The block, not the call, is the unit of replication."""

    chunks: tuple[Chunk, ...]
    seed: int
    fresh: bool
    threads: int
    warm: bool = True
    seconds: float = 0.0  # that it took, warm-up included; 0 if nobody knows
    uncounted: Mapping[str, str] = field(default_factory=dict)  # by quantity, why its counter could not be opened

    def renamed(self, arm: str, name: str) -> Block:
        """The same block with one arm under another name."""
        chunks = tuple(replace(chunk, arm=name) if chunk.arm == arm else chunk for chunk in self.chunks)
        return replace(self, chunks=chunks)

    def of(self, arm: str) -> tuple[float, ...]:
        """All calls of one arm, in nanoseconds, in the order they were made."""
        return tuple(ns for chunk in self.chunks if chunk.arm == arm for ns in chunk.calls_ns)

    def amounts(self, arm: str, quantity: str = ELAPSED) -> tuple[float, ...]:
        """What a call of one arm takes, in base units: of each call in seconds, of each chunk in another quantity."""
        if quantity:
            return tuple(chunk.counted[quantity] for chunk in self.chunks if chunk.arm == arm)
        return tuple(ns / 1e9 for ns in self.of(arm))


@dataclass(frozen=True)
class Context:
    """What dispatch-derived numbers depend on beside the code: equal contexts give equal numbers."""

    torch: str
    kernels: str


@dataclass(frozen=True)
class Facts:
    """All that was measured of one arm and has no noise; exact values under their stored names, the rest by metric."""

    exact: Mapping[str, int | float] = field(default_factory=dict)
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    per_example: Mapping[str, Scores] = field(default_factory=dict)
    varies: str = ""  # why what is seen at dispatch is missing: two calls differ
    missing: Mapping[str, str] = field(default_factory=dict)  # by metric, why it has no value


@dataclass(frozen=True)
class BesideBase:
    """How a base revision was measured, or why it was not; its facts and blocks are those of the arm BASE."""

    missing: str = ""  # why there is nothing to compare with
    remedy: str = ""
    twins: bool = True  # both revisions in one process, not in one each
    context: Context | None = None
    proof: str = ""  # in a sentence, why both are the same program, so that nothing was timed
    proven: str = ""  # by what: SAME_FILES or SAME_PROGRAM
    audit: str = ""  # in a sentence, what timing it all the same has shown


@dataclass(frozen=True)
class Evidence:
    """All that was measured for a case, and where. ``relations`` compares candidate with original."""

    case: Case
    context: Context
    facts: Mapping[str, Facts] = field(default_factory=dict)
    blocks: tuple[Block, ...] = ()
    yardstick: str = ""
    relations: Mapping[str, float] = field(default_factory=dict)
    explained: Mapping[str, str] = field(default_factory=dict)  # by relation, where its number comes from
    information: Mapping[str, object] = field(default_factory=dict)
    beside_base: tuple[Block, ...] = ()  # candidate and base, sampled alternately
    control: tuple[Block, ...] = ()  # the base beside itself: what a sound session shows as no difference
    profiles: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # arm -> operator -> us of one call
    not_timed: str = ""  # why there are no blocks although a limit asks for them
    not_timed_remedy: str = ""
    base: BesideBase = field(default_factory=BesideBase)

    @property
    def candidate(self) -> Facts:
        return self.facts.get(CANDIDATE, Facts())

    @property
    def original(self) -> Facts:
        return self.facts.get(ORIGINAL, Facts())

    def with_blocks(self, blocks: tuple[Block, ...]) -> Evidence:
        return replace(self, blocks=blocks)


class Status(Enum):
    """The outcome of one limit, worst first (the order is the order of reports)."""

    REGRESSED = "REGRESSED"
    NO_BASELINE = "NO_BASELINE"
    INCONCLUSIVE = "INCONCLUSIVE"
    INCOMPARABLE = "INCOMPARABLE"
    NOT_MEASURED = "NOT_MEASURED"
    IMPROVED = "IMPROVED"
    PASS = "PASS"
    RECORDED = "RECORDED"

    @property
    def severity(self) -> int:
        """0 is the worst."""
        return list(Status).index(self)

    @property
    def is_judged(self) -> bool:
        """Whether the limit could be judged at all."""
        return self not in (Status.INCONCLUSIVE, Status.INCOMPARABLE, Status.NOT_MEASURED)

    def fails(self, strict: bool = False) -> bool:
        """Whether the test item fails; ``strict`` fails what could not be judged, too."""
        return self in (Status.REGRESSED, Status.NO_BASELINE) or (strict and not self.is_judged)


# What a file may say of a verdict: numbers far beyond all that is real, and well within what can be computed with.
Number = Annotated[float, msgspec.Meta(ge=-1e100, le=1e100)]
UnitName = Annotated[str, msgspec.Meta(pattern=f"^({'|'.join(unit.value for unit in Unit)})(?!\\n)$")]


@dataclass(frozen=True)
class Verdict:
    """One limit judged: the status, the numbers, one sentence that explains it, and the remedy.

    ``change`` is measured/expected as a ratio where that makes sense; ``low`` and ``high`` bound it.
    ``futile``: it is inconclusive, and more blocks of this session would hardly make it clear.
    ``proven``: by what it is known to hold although nothing was timed; empty where it was.
    """

    case: str
    metric: str
    unit: UnitName
    limit: str
    status: Status
    sentence: str
    measured: Number | None = None
    expected: Number | None = None
    change: Number | None = None
    low: Number | None = None
    high: Number | None = None
    details: tuple[str, ...] = ()
    remedy: str = ""
    futile: bool = False
    proven: str = ""

    @property
    def is_open(self) -> bool:
        """Whether more blocks may settle it."""
        return self.status is Status.INCONCLUSIVE and not self.futile

    def formatted(self, value: float | None) -> str:
        return "" if value is None else format_value(value, Unit(self.unit))


@dataclass(frozen=True)
class Audit:
    """What timing a proven case has shown. ``contradicts``: a time was judged to have changed."""

    contradicts: bool
    sentence: str


def known_seed(seed: int) -> int:
    """Validate a seed: torch and numpy both take 0 to 2**32 - 1."""
    if not 0 <= seed < 2**32:
        raise UsageError(f"seed {seed} is out of range", "use a seed from 0 to 4294967295")
    return seed
