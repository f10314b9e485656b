"""The raw samples: what one unit of recording is, and the append-only files that hold them, one for each arm."""

import os
from pathlib import Path

import msgspec

from perfsuite.spec import Block


class Unit(msgspec.Struct, frozen=True, kw_only=True):
    """One unit of recording, independent of every other: a line of its arm's file."""

    condition: str
    change: str
    number: int  # of this condition and change, from 0
    seed: int
    wall_s: float

    @property
    def cell(self):
        return self.condition, self.change


class TimedBlock(msgspec.Struct, frozen=True):
    seconds: float
    block: Block


class Twins(Unit, frozen=True, kw_only=True):
    """One fresh process with both revisions: a block of each workload."""

    startup_s: float  # of two processes that start together, the second for nothing
    tests: dict[str, TimedBlock]


class OurSession(Unit, frozen=True, kw_only=True):
    """One whole session of ours: the status of each test."""

    statuses: dict[str, str]


class Stats(msgspec.Struct, frozen=True):
    """What pytest-benchmark saves of a test, in seconds."""

    min: float
    max: float
    mean: float
    stddev: float
    median: float
    iqr: float
    ops: float
    rounds: int
    iterations: int


class Sessions(Unit, frozen=True, kw_only=True):
    """A session of pytest-benchmark on the base, and then one on the candidate."""

    base: dict[str, Stats]
    candidate: dict[str, Stats]


class AsvSamples(msgspec.Struct, frozen=True):
    """Seconds per call, from all rounds; ``number`` is calls in a sample of the last round."""

    number: int
    base: list[float]
    candidate: list[float]


class AsvRun(Unit, frozen=True, kw_only=True):
    """One run of `asv continuous`: two rounds of both commits."""

    tests: dict[str, AsvSamples]


SESSIONS = {0.01: "session", 0.02: "session-2%", 0.05: "session-5%"}  # the arms that run ours whole, by tolerance
TYPES = {
    "ours": Twins,
    "truth": Twins,
    **dict.fromkeys(SESSIONS.values(), OurSession),
    "pytest-benchmark": Sessions,
    "pytest-benchmark-best": Sessions,
    "asv": AsvRun,
}


class Folder:
    """Where a record lies. Reading mends what a killed run left: a torn last line is cut off."""

    def __init__(self, path):
        self.path = Path(path)
        self._seen = {}

    def file(self, arm):
        return self.path / f"{arm}.jsonl"

    def append(self, arm, unit):
        """Raises ValueError if the unit is there already."""
        if arm not in self._seen:
            self._seen[arm] = {(old.cell, old.number) for old in self.units(arm)}
        if (unit.cell, unit.number) in self._seen[arm]:
            raise ValueError(f"unit {unit.number} of {unit.cell} is in {self.file(arm)} already")
        with self.file(arm).open("ab") as file:
            file.write(msgspec.json.encode(unit) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._seen[arm].add((unit.cell, unit.number))

    def mend(self):
        for arm in TYPES:
            if self.file(arm).is_file():
                whole, newline, torn = self.file(arm).read_bytes().rpartition(b"\n")
                if torn:
                    self.file(arm).write_bytes(whole + newline)

    def units(self, arm):
        """Every whole unit of an arm, in the order they were recorded."""
        if not self.file(arm).is_file():
            return []
        lines = self.file(arm).read_bytes().split(b"\n")[:-1]
        return [msgspec.json.decode(line, type=TYPES[arm]) for line in lines]
