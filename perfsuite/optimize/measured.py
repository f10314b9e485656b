"""What a technique realizes on this machine, now: the speedup over the original, with its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from perfsuite.measure.clock import Clock
from perfsuite.measure.latency import Arm, Plan, sample_block
from perfsuite.measure.subject import Subject
from perfsuite.progress import tell
from perfsuite.protocols import Inputs
from perfsuite.spec import Block
from perfsuite.stats.blocks import log_ratio
from perfsuite.stats.decision import estimate, spread_of
from perfsuite.units import Unit, format_value

BLOCKS = 5
ALPHA = 0.025  # on each side: the interval holds 95%


@dataclass(frozen=True)
class Speedup:
    """Original time / new time, with an interval over blocks of this process (fresh ones may differ by more)."""

    ratio: float
    low: float
    high: float

    def __str__(self) -> str:
        low, high = (format_value(bound, Unit.RATIO) for bound in (self.low, self.high))
        return f"{format_value(self.ratio, Unit.RATIO)} ({low} to {high})"


def measure_speedups(
    original: nn.Module,
    candidates: Mapping[Any, nn.Module],
    inputs: Any,
    *,
    blocks: int = BLOCKS,
    plan: Plan | None = None,
    clock: Clock | None = None,
) -> dict[Any, Speedup]:
    """Time models alternately on the same inputs; each candidate's speedup over the original.

    ``inputs``: a tensor, a tuple of arguments or a dict of keywords, on the models' device.
    """
    given = Inputs.of(inputs)
    models = {"": original, **candidates}
    arms = {name: Subject.of_model(model, given).arm for name, model in models.items()}
    sampled = sample_blocks(arms, blocks, "measuring the speedup", plan=plan, clock=clock)
    return {name: interval([log_ratio(block, "", name) for block in sampled]) for name in candidates}


def sample_blocks(
    arms: Mapping[Any, Arm], blocks: int, what: str, *, seed: int = 0, plan: Plan | None, clock: Clock | None
) -> tuple[Block, ...]:
    """Blocks of this process, every arm alternately in each; their orders are drawn from ``seed`` and those after."""
    found = []
    for number in range(blocks):
        threads = torch.get_num_threads()
        found.append(sample_block(arms, seed=seed + number, fresh=False, threads=threads, plan=plan, clock=clock))
        tell(what, number + 1, blocks)
    return tuple(found)


def interval(logs: Sequence[float]) -> Speedup:
    """A ratio from one log ratio for each block; one block alone knows no interval."""
    found = estimate(logs, spread_of(logs))
    low, high = found.bounds(ALPHA) if len(logs) > 1 else (-math.inf, math.inf)
    return Speedup(math.exp(found.center), math.exp(low), math.exp(high))
