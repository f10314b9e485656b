"""From variants to a study: sample all of them in turns, and say what the numbers do not know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace

import msgspec
import torch

from perfsuite.baseline.machine import this_machine
from perfsuite.comparison.energy import Absent, Meter
from perfsuite.comparison.timing import Sampling, arms_of, engine_pair, sample_energy, technique_pair, timing
from perfsuite.comparison.values import Profile, Study, Timing
from perfsuite.comparison.variants import Variant
from perfsuite.measure.accelerators import name_of, of_device
from perfsuite.measure.engines import EAGER
from perfsuite.optimize.measured import sample_blocks
from perfsuite.protocols import Inputs
from perfsuite.spec import Block
from perfsuite.techniques.calibrating import in_eval_mode

_SLACK = 1.02
_FEW_CALLS = 100  # with fewer, the 99th percentile is the slowest call or two


def measure(
    model: str,
    variants: Sequence[Variant],
    profiles: Sequence[Profile],
    inputs: Mapping[int, Inputs],
    device: torch.device,
    sampling: Sampling,
    notes: Sequence[str] = (),
    sampled: Mapping[int, tuple[Block, ...]] | None = None,
) -> Study:
    """Sample every variant in turns, at each batch size; the first one is the original.

    ``sampled``: blocks from elsewhere, so that only energy is left to sample here.
    """
    meter = sampling.meter_for(device)
    blocks: dict[int, tuple[Block, ...]] = {}
    timings: dict[tuple[str, int], Timing] = {}
    with ExitStack() as modes:
        for variant in variants:
            modes.enter_context(in_eval_mode(variant.module))
        for size, given in inputs.items():
            arms = arms_of(variants, given, device)
            what, plan, clock = f"{model}: sampling batch size {size}", sampling.plan, sampling.clock
            blocks[size] = (
                sampled[size]
                if sampled
                else sample_blocks(arms, sampling.blocks, what, seed=sampling.seed, plan=plan, clock=clock)
            )
            energies = sample_energy(arms, sampling, meter)
            timings.update({(p.variant, size): timing(p, profiles[0], size, blocks[size], energies) for p in profiles})
    machine = msgspec.to_builtins(this_machine(torch.get_num_threads(), name_of(of_device(device))))
    study = Study(model, device.type, tuple(profiles), timings, blocks, machine)
    return replace(study, notes=(*_about_times(study), *_about_engines(study), *_about_energy(study, meter), *notes))


def _about_times(study: Study) -> Iterator[str]:
    blocks = [block for of_size in study.blocks.values() for block in of_size]
    count = len(next(iter(study.blocks.values())))
    if count == 1:
        yield "one block was sampled, so that no interval is known: use at least 2"
    elif len(study.profiles) > 1:
        yield (
            f"an interval holds with 95% for processes on this machine, over {count} fresh ones; another machine may "
            "differ by more"
            if blocks[0].fresh
            else f"an interval holds with 95% for this process, over {count} blocks in it; another process, and more "
            "so another machine, may differ by more"
        )
    if disturbed := _disturbed(study):
        yield (
            f"{_listed(disturbed)}: p50 beside the original's is outside the interval of the speedup; times drifted "
            "meanwhile, and the speedup, taken between neighbours, is the better figure"
        )
    if not all(block.warm for block in blocks):
        yield "some variant's time had not become stable when its warm-up was over"
    if min(timing.calls for timing in study.timings.values()) < _FEW_CALLS:
        yield f"where fewer than {_FEW_CALLS} calls were timed, p99 is the slowest call or two"


def _disturbed(study: Study) -> list[Profile]:
    """Variants whose p50, set beside the original's, contradicts their speedup."""
    found = []
    for profile in study.profiles[1:]:
        for size in study.batch_sizes:
            mine, original = study.timings[profile.variant, size], study.timings[study.original.variant, size]
            speedup, apart = mine.speedup, original.p50_ms / mine.p50_ms
            if speedup and not speedup.low / _SLACK <= apart <= speedup.high * _SLACK and profile not in found:
                found.append(profile)
    return found


def _about_engines(study: Study) -> Iterator[str]:
    foreign = [profile for profile in study.profiles if profile.engine != EAGER]
    if foreign:
        yield (
            f"{_listed(foreign)}: memory and FLOPs inside another engine cannot be seen; its threads share the "
            "cores with everything else in this process, which can slow the others down"
        )
    mixed = [
        p for p in study.profiles[1:] if not technique_pair(p, study.original) and not engine_pair(p, study.original)
    ]
    if mixed:
        yield (
            f"{_listed(mixed)}: what is the engine's gain and what the technique's cannot be told; measure its fp32 "
            "form on the same engine, and name it as reference="
        )


def _about_energy(study: Study, meter: Meter | Absent) -> Iterator[str]:
    if isinstance(meter, Absent):
        if meter.why:
            yield f"energy was not measured: {meter.why}"
    elif all(timing.energy_j_per_example is None for timing in study.timings.values()):
        yield f"energy was not measured: the counter of {meter.what} stands still"
    else:
        yield f"energy is that of {meter.what}: everything else that ran there meanwhile is in it"


def _listed(profiles: Sequence[Profile]) -> str:
    return ", ".join(repr(profile.variant) for profile in profiles)
