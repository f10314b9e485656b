"""Times and energy of several variants, sampled in turns, and the ratios between them with their intervals."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from perfsuite.comparison.energy import Absent, Meter, find_meter, joules_per_call
from perfsuite.comparison.values import Profile, Timing
from perfsuite.comparison.variants import Variant
from perfsuite.errors import UsageError
from perfsuite.measure.clock import Clock, RealClock
from perfsuite.measure.latency import Arm, Plan
from perfsuite.measure.subject import Subject
from perfsuite.optimize.measured import BLOCKS, Speedup, interval
from perfsuite.protocols import Inputs
from perfsuite.spec import Block, known_seed
from perfsuite.stats.blocks import log_ratio, percentiles_ms

Energies = Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class Sampling:
    """How times are sampled: so many blocks by this plan, orders and inputs drawn from the seed.

    ``meter`` counts energy; None looks for one, and ``Absent()`` leaves energy out.
    """

    blocks: int = BLOCKS
    seed: int = 0
    plan: Plan = field(default_factory=Plan)
    clock: Clock = field(default_factory=RealClock)
    meter: Meter | Absent | None = None

    def __post_init__(self) -> None:
        known_seed(self.seed)
        if type(self.blocks) is not int or self.blocks < 1:
            raise UsageError(f"{self.blocks!r} blocks are not possible", "use at least 2, so that there is an interval")

    def meter_for(self, device: torch.device) -> Meter | Absent:
        return find_meter(device) if self.meter is None else self.meter


def arms_of(variants: Sequence[Variant], inputs: Inputs, device: torch.device) -> dict[str, Arm]:
    """One call of each variant on the same inputs, waited for."""
    return {variant.name: Subject.of_model(variant.module, inputs, variant.name).arm for variant in variants}


def sample_energy(arms: Mapping[str, Arm], sampling: Sampling, meter: Meter | Absent) -> Energies:
    if isinstance(meter, Absent):
        return {}
    return joules_per_call(arms, meter, max(2, sampling.blocks), sampling.clock)


def timing(profile: Profile, original: Profile, size: int, blocks: Sequence[Block], energies: Energies) -> Timing:
    """One variant's times and its ratios to the original, told apart by engine and technique where possible."""
    name, base = profile.variant, original.variant
    samples = [ns for block in blocks for ns in block.of(name)]
    own = energies.get(name)
    return Timing(
        *percentiles_ms(blocks, name), statistics.fmean(samples) / 1e6, len(samples),
        speedup=_gain(blocks, (base, name)),
        engine_gain=_gain(blocks, engine_pair(profile, original)),
        technique_gain=_gain(blocks, technique_pair(profile, original)),
        energy_j_per_example=statistics.median(own) / size if own else None,
        energy_gain=_energy_gain(energies, base, name),
    )  # fmt: skip


def engine_pair(profile: Profile, original: Profile) -> tuple[str, str] | None:
    """The two fp32 forms, slow and fast, whose ratio is the engine's gain; None where there is none to tell."""
    if profile.reference:
        return original.variant, profile.reference
    if profile.is_plain and profile.engine and profile.engine != original.engine:
        return original.variant, profile.variant
    return None


def technique_pair(profile: Profile, original: Profile) -> tuple[str, str] | None:
    """The fp32 form and the variant on the same engine, whose ratio is the technique's gain."""
    if profile is original:
        return None
    if profile.reference:
        return profile.reference, profile.variant
    return (original.variant, profile.variant) if profile.engine == original.engine else None


def _gain(blocks: Sequence[Block], pair: tuple[str, str] | None) -> Speedup | None:
    """Of the second form over the first; None of one over itself."""
    return interval([log_ratio(block, *pair) for block in blocks]) if pair and pair[0] != pair[1] else None


def _energy_gain(energies: Energies, base: str, name: str) -> Speedup | None:
    if name == base or name not in energies:
        return None
    return interval([math.log(a / b) for a, b in zip(energies[base], energies[name], strict=True)])
