"""The settings of a session, and the values that it answers with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from perfsuite.baseline.machine import Machine
from perfsuite.baseline.remote import Location
from perfsuite.baseline.schema import Entry
from perfsuite.case import Case
from perfsuite.executors.jobs import Job
from perfsuite.measure.latency import Plan
from perfsuite.spec import Verdict

ACCEPTED = "accepted"  # a base for each case: the commit that its baseline was accepted at


@dataclass(frozen=True)
class Settings:
    """How a session measures. ``no_timing`` is (why, remedy) where times cannot be measured at all.

    ``alpha``: the chance that any of the session's ``tests`` is called a regression although none is.
    """

    root: Path
    storage: Location
    threads: int
    update: bool = False
    seed: int = 0
    budget_s: float = 60
    block_s: float = 3  # of sampling in one process, as a rule
    max_blocks: int = 8
    record_blocks: int = 5
    no_timing: tuple[str, str] = ("", "")
    base: str = ""  # a git revision, or ACCEPTED; empty: stored baselines judge
    base_build: str = ""
    isolation: str = "auto"  # inprocess: both revisions in one process; processes: in two; auto: in one if sound
    profile: bool = False
    require_covered: bool = False  # fail where a changed function is measured by nothing
    audit: float = 0.0  # the share of proven cases that is timed all the same
    alpha: float = 0.01
    tests: int = 1

    def plan(self, start: Plan, precision: float = 0.0) -> Plan:
        """A plan for blocks: the time that they may take, rounds to fill it, and how well known they may end early."""
        rounds = 2 * math.ceil(start.rounds / 2 * max(1, self.block_s / Settings.block_s))
        return replace(start, budget_ns=round(1e9 * self.block_s), rounds=rounds, precision=precision)


@dataclass(frozen=True)
class Rerun:
    """How one test is run again: what a person types to record its baseline, and its name for workers.

    ``following`` is the item that will probably be measured next; ``parameters`` are digests that tell the item
    where its name is another one in each process. ``leaks``: what this process has of earlier tests, and fresh
    processes have not, a sentence each.
    """

    update_command: str
    item: str = ""
    following: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    leaks: tuple[str, ...] = ()
    test: tuple[Path, str] = (Path(), "")  # its file, and the name of its function

    def job(self, case: Case, settings: Settings) -> Job:
        """What every job of this test has in common."""
        return Job(
            case=case, item=self.item, following=self.following, parameters=dict(self.parameters),
            seed=settings.seed, threads=settings.threads,
        )  # fmt: skip


@dataclass(frozen=True)
class Acceptance:
    """What is to be stored of a case once its test has passed. ``machine``: where its times are from, if any."""

    group: str
    key: str
    entry: Entry
    machine: Machine | None = None


@dataclass(frozen=True)
class Judged:
    """What a gate found: the verdicts in the order of their limits, and numbers to show beside them."""

    verdicts: tuple[Verdict, ...]
    information: Mapping[str, object] = field(default_factory=dict)
    samples_ms: tuple[tuple[float, ...], ...] = ()  # the candidate's calls, by block
    operators: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # (accepted, now), where they differ
    acceptance: Acceptance | None = None  # with --perf-update
    again: bool = False  # whether an earlier run of the same test found it, in this session


class WorkerDone(Exception):  # noqa: N818  # it is no error: a worker has answered and its test may end
    """The process was a worker, and it has answered."""
