"""The power of the decision: which outcomes to expect at a true effect and noise, by simulation."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from perfsuite.stats.blocks import Effect
from perfsuite.stats.decision import Outcome, Spread
from perfsuite.stats.sequential import Errors, interim_decision
from perfsuite.stats.variance_shrinkage import shrunk_spread


@dataclass(frozen=True)
class Noise:
    """Standard deviations of log ratios: between blocks, and of a block's median within the block."""

    between: float
    within: float


@dataclass(frozen=True)
class Power:
    """The probability of each outcome (UNCLEAR: what stays inconclusive), and the mean number of blocks."""

    outcomes: Mapping[Outcome, float]
    blocks: float


def power(
    effect: float, noise: Noise, tolerance: float, errors: Errors, prior: Spread, *, trials: int = 1000, seed: int = 0
) -> Power:
    """Simulate ``trials`` sequences of blocks with normal noise around a true log effect.

    Each probability has a standard error of at most 0.5 / sqrt(trials).
    """
    rng = random.Random(seed)
    ends = [_decide(rng, effect, noise, tolerance, errors, prior) for _ in range(trials)]
    counts = Counter(outcome for outcome, _ in ends)
    return Power({outcome: counts[outcome] / trials for outcome in Outcome}, sum(blocks for _, blocks in ends) / trials)


def _decide(
    rng: random.Random, effect: float, noise: Noise, tolerance: float, errors: Errors, prior: Spread
) -> tuple[Outcome, int]:
    """One sequence of blocks to its end: the outcome, and how many blocks it took."""
    blocks: list[Effect] = []
    while True:
        blocks.append(Effect(rng.gauss(effect, math.hypot(noise.between, noise.within)), noise.within))
        decision = interim_decision(blocks, shrunk_spread(prior, blocks), tolerance, errors)
        if not decision.is_open or len(blocks) == errors.looks:
            return decision.outcome, len(blocks)
