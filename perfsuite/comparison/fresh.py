"""Blocks from fresh processes, for models and techniques that have names: each process builds them by itself.

What differs from one process to the next (memory layout, threads, caches) is then in the intervals.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import torch

from perfsuite.comparison.timing import arms_of
from perfsuite.comparison.variants import common_device, variant
from perfsuite.errors import EngineError, UsageError
from perfsuite.executors.processes import guarded
from perfsuite.measure.latency import Plan, sample_block
from perfsuite.models.source import source
from perfsuite.progress import tell
from perfsuite.protocols import Technique
from perfsuite.spec import ORIGINAL, Block
from perfsuite.techniques.values import applied, parse_technique
from perfsuite.temporary import temporary_folder

Blocks = dict[int, tuple[Block, ...]]

_TIMEOUT_S = 600
_SHOWN = 20  # lines of the output of a process that failed
_PROGRAM = "import sys; from perfsuite.comparison.fresh import serve; serve(sys.argv[1], sys.argv[2])"


class Order(msgspec.Struct, frozen=True):
    """What a process is asked for: one block at each batch size. ``seed`` builds; ``seed`` + ``number`` orders."""

    model: str
    techniques: tuple[str, ...]
    device: str
    batch_sizes: tuple[int, ...]
    seed: int
    threads: int
    plan: Plan
    number: int = 0


def name_for_fresh(model: object, techniques: Sequence[Technique], *own_data: object) -> str:
    """The model's name. Raises UsageError for what another process could not build from names."""
    remedy = "leave out fresh=, or use a model and techniques that are registered"
    if not isinstance(model, str):
        raise UsageError("a fresh process builds the model from its name, and this one has none", remedy)
    if any(given is not None for given in own_data):
        raise UsageError("a fresh process makes inputs and data by itself, and some were given", remedy)
    for technique in techniques:
        if parse_technique(technique.name) != technique:
            raise UsageError(f"the name {technique.name!r} does not say all of {technique}", remedy)
    return model


def fresh_blocks(order: Order, blocks: int) -> Blocks:
    """Blocks by batch size, one from each of so many fresh processes.

    Raises EngineError, with the end of its output, if a process dies, hangs or does not answer.
    """
    found: list[dict[int, Block]] = []
    for number in range(blocks):
        found.append(_run(msgspec.structs.replace(order, number=number)))
        tell(f"{order.model}: sampling in fresh processes", number + 1, blocks)
    return {size: tuple(answered[size] for answered in found) for size in order.batch_sizes}


def serve(text: str, answer: str) -> None:
    """In the fresh process: build, sample, and write the blocks to the file ``answer``."""
    order = msgspec.json.decode(text, type=Order)
    torch.set_num_threads(order.threads)
    found = source(order.model, seed=order.seed, device=order.device)
    data = found.calibration(order.batch_sizes[0], order.seed)
    made = {name: applied(parse_technique(name), found.module, data) for name in order.techniques}
    variants = [variant(name, module) for name, module in ({ORIGINAL: found.module} | made).items()]
    device, blocks = common_device(variants), {}
    for size in order.batch_sizes:
        arms = arms_of(variants, found.batch(size, order.seed, device), device)
        blocks[size] = sample_block(
            arms, seed=order.seed + order.number, fresh=True, threads=order.threads, plan=order.plan
        )
    Path(answer).write_bytes(msgspec.json.encode(blocks))


def _run(order: Order) -> dict[int, Block]:
    with temporary_folder("fresh") as folder:
        answer, command = folder / "blocks.json", [sys.executable, "-c", _PROGRAM]
        environment = {**os.environ, "PYTHONHASHSEED": str((order.seed + order.number) % 2**32)}
        try:
            done = subprocess.run(
                guarded([*command, msgspec.json.encode(order).decode(), str(answer)]), stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, timeout=_TIMEOUT_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise EngineError(
                f"a fresh process for {order.model} did not finish in {_TIMEOUT_S} s", "compare fewer variants"
            ) from error
        if done.returncode or not answer.is_file():
            ending = "\n".join(done.stdout.decode("utf-8", "replace").splitlines()[-_SHOWN:])
            raise EngineError(
                f"a fresh process for {order.model} ended with status {done.returncode}; its output ends:\n{ending}",
                "compare in this process: leave out fresh=",
            )
        return msgspec.json.decode(answer.read_bytes(), type=dict[int, Block])
