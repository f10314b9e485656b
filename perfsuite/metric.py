"""Metrics, and the shapes that their data can have: by its shape, whatever its name, a metric is measured and judged.

    Exact       one number without noise: the same on every run
    Counted     how often each of several things happens, without noise: what was added and removed is judged
    Sampled     what a counter grows by in a call, sampled in blocks and judged with statistics; time is one
    PerExample  one value for each example of a data set: booleans by McNemar's test, numbers by a paired t test
    Relation    one number that relates the candidate to its original, in the same run

``needs`` names what must be observable for a number to mean something; what is not gives NOT_MEASURED. No torch here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import InitVar, dataclass
from enum import Enum
from typing import Any, Protocol

from perfsuite.errors import UsageError
from perfsuite.units import Unit

DISPATCH = frozenset({"dispatch"})  # the operators that torch dispatches are what a call does
WEIGHTS = frozenset({"weights"})  # the saved file holds what the model computes with
FILES = frozenset({"files"})  # there are files that are deployed, or else weights to save
TASK = frozenset({"task"})  # the model's spec has a task
PYTHON = frozenset({"python"})  # the Python functions that run are the same in each call
GRAPH = frozenset({"graph"})  # the operators of a call are known: dispatched, or of a runtime's optimized graph
LAYERS = frozenset({"layers"})  # in which precision products with weights are computed is known
TRAINING = frozenset({"training"})  # a repetition is a training step
TARGET = frozenset({"target"})  # the model's spec names a loss to reach
OBSERVABLE = DISPATCH | WEIGHTS | FILES | TASK | PYTHON | GRAPH | LAYERS | TRAINING | TARGET
NOTHING: frozenset[str] = frozenset()

ELAPSED = ""  # the quantity that every block has: time


@dataclass(frozen=True)
class Scores:
    """A value for each example: whether it is right, or a number. ``examples`` is a digest: equal ones are paired."""

    task: str
    examples: str
    values: tuple[bool | float, ...]

    @property
    def mean(self) -> float:
        return sum(self.values) / len(self.values)

    accuracy = mean  # of booleans

    @property
    def are_flags(self) -> bool:
        return all(isinstance(value, bool) for value in self.values)

    @property
    def correct(self) -> tuple[bool, ...]:
        """Raises ValueError for numbers, which are neither right nor wrong."""
        if not self.are_flags:
            raise ValueError(f"the values of {self.task} are numbers")
        return tuple(map(bool, self.values))


class Reader(Protocol):
    """An opened counter."""

    def read(self) -> float:
        """What has been counted since some fixed moment, in the metric's base unit; it never falls."""


Counter = Callable[[], Reader]
"""Opens a counter in the process that calls it. Raises UnavailableError where there is none."""


class Time:
    """The counter that every block has: seconds. Blocks keep its value for each call, of others one for a chunk."""

    read = staticmethod(time.perf_counter)


TIME: Counter = Time


@dataclass(frozen=True)
class Exact:
    """``measure`` takes a subject (perfsuite.measure.subject) and returns a finite number.

    ``is_costly``: it takes long, so that it is measured where a limit asks for it, and not to explain another.
    """

    measure: Callable[[Any], float]
    needs: frozenset[str] = NOTHING
    is_costly: bool = False


@dataclass(frozen=True)
class Counted:
    """``count`` takes a subject; the metric's number is the sum."""

    count: Callable[[Any], Mapping[str, int]]
    needs: frozenset[str] = NOTHING


@dataclass(frozen=True)
class Sampled:
    """What ``counter`` grows by in one call; with ``rate``, examples for each unit of that."""

    counter: Counter
    rate: bool = False

    @property
    def needs(self) -> frozenset[str]:
        return NOTHING

    @property
    def exponent(self) -> int:
        """The metric's value grows with this power of what a call takes."""
        return -1 if self.rate else 1

    def value(self, amount: float, examples: int) -> float:
        """The metric's value where a call of so many examples takes ``amount``; and its own inverse."""
        return examples / amount if self.rate else amount


@dataclass(frozen=True)
class PerExample:
    """``score`` takes a subject; of a metric against the original, the ratio of both means is judged."""

    score: Callable[[Any], Scores]
    needs: frozenset[str] = NOTHING


@dataclass(frozen=True)
class Relation:
    """``measure`` takes the candidate's subject and the original's; None where there is no such number.

    ``explain`` takes the same and says, in words, where the number comes from.
    """

    measure: Callable[[Any, Any], float | None]
    needs: frozenset[str] = NOTHING
    explain: Callable[[Any, Any], str] | None = None


Probe = Exact | Counted | Sampled | PerExample | Relation
PROBES = (Exact, Counted, Sampled, PerExample, Relation)


class Direction(Enum):
    """Which way is better."""

    LOWER = "lower"
    HIGHER = "higher"
    SAME = "same"  # neither: what is other than before is worse, whichever way it went

    @property
    def sign(self) -> int:
        """What turns a difference (new - old) into one that is positive when it is worse, where one side is."""
        return -1 if self is Direction.HIGHER else 1


class Kind(Enum):
    """The shape of a metric's data, as coarsely as histories keep it."""

    EXACT = "exact"  # no noise: the same number on every run
    SAMPLED = "sampled"  # blocks of samples, judged with statistics
    PAIRED = "paired"  # values on the same examples


class Against(Enum):
    """What a metric is compared with when its limit is a tolerance."""

    BASELINE = "the stored baseline"
    ORIGINAL = "the original in the same run"


@dataclass(frozen=True)
class Metric:
    """A named measurement; ``probe`` says how it is taken, and by its shape how it is judged (perfsuite.probes).

    A ``Relation`` is against the original, whatever is said. Raises UsageError for the fields of older versions.
    """

    name: str
    unit: Unit
    better: Direction
    probe: Probe
    against: Against = Against.BASELINE
    measure: InitVar[object] = None
    kind: InitVar[object] = None

    def __post_init__(self, measure: object, kind: object) -> None:
        if measure is not None or kind is not None or isinstance(self.probe, Kind):
            raise UsageError(
                f"the metric {self.name!r} is declared as for an older perfsuite: a metric has a probe now",
                "instead of kind= and measure=function write probe=Exact(function) (docs/extending.md)",
            )
        if isinstance(self.probe, Relation):
            object.__setattr__(self, "against", Against.ORIGINAL)

    @property
    def stored_name(self) -> str:
        """The key in files: the name with its unit where that is not a plain number."""
        return f"{self.name}_bytes" if self.unit is Unit.BYTES else self.name

    @property
    def shape(self) -> Kind:
        if isinstance(self.probe, Sampled):
            return Kind.SAMPLED
        return Kind.PAIRED if isinstance(self.probe, PerExample) else Kind.EXACT

    @property
    def quantity(self) -> str:
        """Under which name blocks hold what a sampled metric is about."""
        return ELAPSED if isinstance(self.probe, Sampled) and self.probe.counter is TIME else self.name
