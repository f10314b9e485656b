"""Where blocks come from: this process, or fresh ones. Later, other machines: a block depends on no other.

A fresh process runs the same test up to its measurement, samples one block there, writes it to a
file and ends. Its order travels in an environment variable.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec

from perfsuite.errors import EngineError
from perfsuite.measure.clock import Clock, RealClock
from perfsuite.measure.latency import Arm, Plan, sample_block
from perfsuite.spec import Block

ORDER_VARIABLE = "PERFSUITE_WORKER"  # the plugin knows it, too: perfsuite.plugin.state


WorkerCommand = Callable[[Path], Sequence[str]]
"""The command of a worker, given a folder of its own for what it leaves behind."""


class BlockSource(Protocol):
    def block(self, seed: int) -> Block:
        """One block, its order drawn from the seed."""


class WorkerOrder(msgspec.Struct, frozen=True):
    """What a fresh process is asked for: sample these arms of this case, and answer to this file."""

    case: str
    arms: tuple[str, ...]
    yardstick: str
    seed: int
    threads: int
    answer: str

    @staticmethod
    def from_environment() -> WorkerOrder | None:
        """The order that this process was started with, if it is a worker."""
        text = os.environ.get(ORDER_VARIABLE)
        return msgspec.json.decode(text, type=WorkerOrder) if text else None


@dataclass(frozen=True)
class InPlace:
    """Blocks from this process: cheap, and good for a first look."""

    arms: Mapping[str, Arm]
    threads: int
    plan: Plan = field(default_factory=Plan)
    clock: Clock = field(default_factory=RealClock)
    fresh: bool = False

    def block(self, seed: int) -> Block:
        with _torch_threads(self.threads):
            return sample_block(
                self.arms, seed=seed, fresh=self.fresh, threads=self.threads, plan=self.plan, clock=self.clock
            )


@dataclass(frozen=True)
class Fresh:
    """Blocks from fresh processes, one each. ``command`` runs the test that measures the case."""

    command: WorkerCommand
    order: Callable[[int, str], WorkerOrder]  # (seed, path of the answer)
    cwd: Path | None = None
    timeout_s: float = 300

    def block(self, seed: int) -> Block:
        """Raises EngineError, with the end of its output, if the process dies, hangs or does not answer."""
        with tempfile.TemporaryDirectory(prefix="perfsuite-worker-") as folder:
            answer, log = Path(folder) / "block.json", Path(folder) / "output.txt"
            order = self.order(seed, str(answer))
            status = self._run(order, log, self.command(Path(folder)))
            if not answer.is_file():
                raise EngineError(
                    f"a fresh process for {order.case} {status}; its output ends:\n{_tail(log)}",
                    "run the test by itself; what it does must not depend on the tests before it",
                )
            return msgspec.json.decode(answer.read_bytes(), type=Block)

    def _run(self, order: WorkerOrder, log: Path, command: Sequence[str]) -> str:
        environment = {
            **os.environ,
            ORDER_VARIABLE: msgspec.json.encode(order).decode(),
            "PYTHONHASHSEED": str(order.seed % 2**32),
        }
        with log.open("wb") as output:
            try:
                done = subprocess.run(
                    command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                    cwd=self.cwd, env=environment, timeout=self.timeout_s, check=False,
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                return f"did not finish in {self.timeout_s:g} s"
        if done.returncode < 0:
            return f"was killed by signal {-done.returncode}"
        return f"ended with status {done.returncode} before it measured"


def serve(order: WorkerOrder, arms: Mapping[str, Arm]) -> None:
    """In a worker: sample the block that was ordered and write the answer."""
    block = InPlace(arms, order.threads, fresh=True).block(order.seed)
    answer = Path(order.answer)
    temporary = answer.with_suffix(".tmp")
    temporary.write_bytes(msgspec.json.encode(block))
    temporary.replace(answer)


@contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    """Run on so many torch threads, if torch is imported at all; afterwards as before."""
    if "torch" not in sys.modules:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _tail(log: Path, lines: int = 30) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
