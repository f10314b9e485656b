"""Synthetic raw samples for benchmarks/gate_power.py, with known effects and noise."""

import math
import random

from power.changes import CHANGES
from power.samples import AsvRun, AsvSamples, Sessions, Stats, TimedBlock, Twins

from perfsuite.spec import Block, Chunk

TESTS = ("tiny-mlp", "small-cnn", "encoder-small", "encoder-medium", "encoder-int8", "encoder-pruned")
MS = 5e6


def block(rng, effect, between=0.004, within=0.01, rounds=10):
    """Mirrored rounds; the process's own log ratio is drawn around the effect."""
    mine = effect + rng.gauss(0, between)
    chunks = []
    for number in range(rounds):
        for arm in ("candidate", "base") if number % 2 else ("base", "candidate"):
            center = MS * math.exp(mine * (arm == "candidate") + rng.gauss(0, within))
            chunks.append(Chunk(arm, (center, center * 1.01, center * 0.99)))
    return Block(tuple(chunks), 0, True, 2)


def twins(number=0, effect=0.0, condition="quiet", change="none", seconds=1.0, startup_s=3.0, **noise):
    rng = random.Random(f"{condition} {change} {number}")
    tests = {test: TimedBlock(seconds, block(rng, effect, **noise)) for test in CHANGES[change].workloads}
    wall_s = startup_s + seconds * len(tests)
    return Twins(
        condition=condition, change=change, number=number, seed=number, wall_s=wall_s, startup_s=startup_s, tests=tests
    )


def stats(mean, median=None):
    median = median or mean
    return Stats(median * 0.9, mean * 2, mean, 0.1 * mean, median, 0.1 * mean, 1 / mean, 100, 1)


def sessions(ratios, number=0, condition="quiet", change="none", field="mean"):
    """A session of pytest-benchmark in which each test's mean (or median) differs by a ratio."""
    candidate = {
        test: stats(0.01 * ratio) if field == "mean" else stats(0.01, 0.01 * ratio) for test, ratio in ratios.items()
    }
    base = {test: stats(0.01) for test in ratios}
    return Sessions(
        condition=condition, change=change, number=number, seed=0, wall_s=20, base=base, candidate=candidate
    )


def asv_run(effect, number=0, noise=0.01, samples=10, condition="quiet", change="none"):
    rng = random.Random(f"{condition} {change} {number}")

    def drawn(center):
        return [center * math.exp(rng.gauss(0, noise)) for _ in range(samples)]

    tests = {test: AsvSamples(2, drawn(0.005), drawn(0.005 * math.exp(effect))) for test in TESTS}
    return AsvRun(condition=condition, change=change, number=number, seed=0, wall_s=18, tests=tests)
