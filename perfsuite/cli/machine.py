"""``perfsuite machine``: what this machine is, what it can do, and what it can tell right now."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from perfsuite.cli.ini import threads_of
from perfsuite.cli.output import Threads, say
from perfsuite.progress import show_progress, tell

if TYPE_CHECKING:
    import torch

    from perfsuite.measure.clock import Clock

_SIZE = 2048  # of the matrices, for the peaks
_SECONDS = 1.0  # for each peak


def machine(
    threads: Threads = None,
    blocks: Annotated[int, typer.Option(min=2, help="Blocks that the noise is measured with.")] = 4,
) -> None:
    """The machine class, its instruction sets, measured peaks, the noise right now, and the tolerance it supports."""
    import torch

    from perfsuite.baseline.machine import this_machine
    from perfsuite.executors.threads import run_with_threads
    from perfsuite.measure.clock import RealClock

    here = this_machine(threads_of(threads))
    say(f"machine class: {here.id}\n{here.cpu}, {here.cores} usable cores, {here.threads} threads, {here.os}")
    say(f"instruction sets: {here.isa or 'none that matter here'}\ntorch {here.torch}, Python {here.python}\n")
    with show_progress(), run_with_threads(here.threads), torch.no_grad():
        for name, unit, work, call in _peaks():
            tell(f"peak: {name}", 0, 1)
            say(f"{name:12} {work / _best_s(call, RealClock()) / 1e12:8.2f} {unit}")
        _say_noise(here.threads, blocks)


def _peaks() -> list[tuple[str, str, float, Callable[[], object]]]:
    """(name, unit, operations or bytes of a call, call)"""
    import torch

    from perfsuite._compat.torch import int_mm

    products = 2.0 * _SIZE**3
    a8 = torch.ones(_SIZE, _SIZE, dtype=torch.int8)
    source = torch.zeros(2**26)
    target = torch.empty_like(source)
    return [
        *((f"matmul {name}", "TFLOP/s", products, _product(dtype)) for name, dtype in _dtypes().items()),
        ("matmul int8", "TOP/s", products, lambda: int_mm(a8, a8)),
        ("memory copy", "TB/s", 2.0 * source.nbytes, lambda: target.copy_(source)),
    ]


def _dtypes() -> dict[str, torch.dtype]:
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def _product(dtype: torch.dtype) -> Callable[[], object]:
    import torch

    a = torch.ones(_SIZE, _SIZE, dtype=dtype)
    return lambda: torch.mm(a, a)


def _best_s(call: Callable[[], object], clock: Clock) -> float:
    """The fastest call within a second, after one that warms up: a peak, not a typical time."""
    call()
    best, end = math.inf, clock.now_ns() + _SECONDS * 1e9
    while (start := clock.now_ns()) < end:
        call()
        best = min(best, clock.now_ns() - start)
    return best / 1e9


def _say_noise(threads: int, blocks: int) -> None:
    """Two equal transformer layers of about a millisecond, sampled as twins in this process."""
    from perfsuite.gate.automatic import tolerance
    from perfsuite.gate.beside import TWINS_PRIOR
    from perfsuite.measure.latency import sample_block
    from perfsuite.measure.yardstick import TRANSFORMER, yardstick
    from perfsuite.spec import BASE, CANDIDATE
    from perfsuite.stats.blocks import block_effect
    from perfsuite.stats.sequential import Errors
    from perfsuite.stats.variance_shrinkage import shrunk_spread

    effects = []
    for number in range(blocks):
        tell("noise", number, blocks)
        arms = {CANDIDATE: yardstick(TRANSFORMER), BASE: yardstick(TRANSFORMER)}
        block = sample_block(arms, seed=number, fresh=False, threads=threads)
        effects.append(block_effect(block, CANDIDATE, BASE))
    spread = shrunk_spread(TWINS_PRIOR, effects)
    say(f"\nnoise right now, two equal layers of about 1 ms as twins, {blocks} blocks in this process:")
    say("  differences " + ", ".join(f"{math.expm1(effect.value):+.2%}" for effect in effects))
    own = math.sqrt(statistics.fmean(effect.se**2 for effect in effects))
    least = tolerance(spread, Errors(), own=own)
    say(f"  with --perf-base, unchanged code passes a tolerance of {least:.1%} within 4 blocks")
