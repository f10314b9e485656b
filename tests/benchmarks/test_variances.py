"""benchmarks/variances.py tells three variances apart where they are known."""

import math
import random

import pytest
from variances import Layout, nested

from perfsuite.spec import Block, Chunk

PROCESS, LAYOUT, NOISE = 0.02, 0.03, 0.01  # of one round's log ratio


def drawn(rng, process, rounds=40):
    """Mirrored rounds, so that no ratio shares a chunk with another."""
    shift = rng.gauss(process, LAYOUT)
    chunks = []
    for number in range(rounds):
        pair = [Chunk("candidate", (math.exp(rng.gauss(shift, NOISE)),)), Chunk("base", (1.0,))]
        chunks += pair[:: 1 if number % 2 else -1]
    return Layout.of(Block(tuple(chunks), 0, True, 1), 1.0)


def test_process_layout_and_noise_are_told_apart():
    rng = random.Random(1)
    processes = [rng.gauss(0, PROCESS) for _ in range(300)]
    seen = nested([[drawn(rng, process) for _ in range(4)] for process in processes])
    assert math.sqrt(seen.process) == pytest.approx(PROCESS, rel=0.15)
    assert math.sqrt(seen.layout) == pytest.approx(LAYOUT, rel=0.1)
    assert math.sqrt(seen.noise) == pytest.approx(NOISE * math.sqrt(math.pi / 2 / 40), rel=0.1)
    assert seen.says >= 0.8 * seen.noise
    assert abs(seen.mean) < 3 * PROCESS / math.sqrt(300)
