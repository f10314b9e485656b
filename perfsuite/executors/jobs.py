"""What is to be measured, and what was: plain values that go over any wire, and who takes the one for the other.

    Job -> Executor -> Result

A job depends on no other, so they may be done in any order, at any place, and several at the same time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Sequence
from typing import Literal, Protocol

import msgspec

from perfsuite.case import Case
from perfsuite.measure.latency import Plan
from perfsuite.proof.verdicts import NotProven, Proof
from perfsuite.spec import BASE, CANDIDATE, Block, Context, Facts

Want = Literal["block", "facts", "scores", "relations", "profiles", "proof"]
"""``scores`` and ``relations`` say what the facts are to hold beside exact numbers."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One case, measured once: in one process, or in several that take turns. Every field is plain data.

    ``item`` is the test that leads to the measurement, and ``following`` the one that will probably come next;
    ``parameters`` are digests that tell an item whose name is another one in each process. Without an item the job
    is built from the case's registered names, and its arms are ORIGINAL, CANDIDATE or techniques by name.
    ``revisions`` are worktrees by name; None is the working tree.
    """

    case: Case
    item: str = ""
    following: str = ""
    parameters: dict[str, str] = {}
    revisions: dict[str, str | None] = msgspec.field(default_factory=lambda: {CANDIDATE: None})
    arms: tuple[str, ...] = (CANDIDATE,)
    apart: bool = False  # whether each revision, or of one revision each arm, has a process of its own
    yardstick: str = ""
    want: frozenset[Want] = frozenset({"block"})
    metrics: tuple[str, ...] = ()  # that the facts of a job without an item hold
    calibrated_at: int = 0  # the batch size of the data that techniques are given there; 0: the case's
    plan: Plan = Plan()
    seed: int = 0  # of what is measured; orders and processes also differ by the number
    number: int = 1  # of the block
    threads: int = 1
    examined: bool = False  # whether these revisions have been found to be sound, and used, for this item already

    @property
    def block_seed(self) -> int:
        return self.seed + self.number

    @property
    def arms_of_block(self) -> tuple[str, ...]:
        """Beside a base there are the candidate and the base, which is that arm as another revision has it."""
        return self.arms if len(self.revisions) == 1 else (CANDIDATE, BASE)

    @property
    def wants_facts(self) -> bool:
        return not self.want.isdisjoint({"facts", "scores", "relations"})

    @property
    def id(self) -> str:
        """Equal for equal jobs, in every process: a result names the job that it is for."""
        written = msgspec.json.encode(self, order="deterministic")
        return f"{self.case.key} ({self.number}, {hashlib.sha256(written).hexdigest()[:12]})"


class Measured(msgspec.Struct, frozen=True):
    """What one revision found at its measurement; of the original, if that was asked for."""

    facts: Facts
    context: Context
    original: Facts = Facts()
    relations: dict[str, float] = {}
    explained: dict[str, str] = {}


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What a job gave. ``machine``: the class of the machine that did it (perfsuite.baseline.machine).

    ``unsound``: why these revisions must not share a process, if they must not: then nothing was measured.
    """

    job: str  # its id
    machine: str
    block: Block | None = None
    measured: dict[str, Measured] = {}  # by revision
    profiles: dict[str, dict[str, float]] = {}  # by arm: microseconds of own time in each operator, for one call
    unsound: str = ""
    proof: Proof | NotProven | None = None


class Executor(Protocol):
    """Where jobs are done."""

    def submit(self, jobs: Sequence[Job]) -> Generator[Result]:
        """The results as they are complete, in any order. Closing the generator cancels what is left.

        Raises WorkerGoneError, RevisionFailedError, UnusedBaseError (perfsuite.executors.failures).
        """

    def close(self) -> None:
        """End all that it has started. Safe to call again."""
