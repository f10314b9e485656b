"""benchmarks/variances.py tells three variances apart where they are known."""

import math
import random

import pytest
from variances import Layout, nested

from perfsuite.spec import Block, Chunk

PROCESS, LAYOUT, NOISE = 0.02, 0.03, 0.2  # of one log ratio
CHUNKS = 80


def drawn(rng, process):
    """Ratios that share chunks and are independent all the same, as where noise lasts: a block takes them for alike."""
    shift, log, chunks = rng.gauss(process, LAYOUT), 0.0, []
    for number in range(CHUNKS):
        arm, sign = ("candidate", 1) if number % 2 else ("base", -1)
        chunks.append(Chunk(arm, (math.exp(log := log + sign * rng.gauss(shift, NOISE)),)))
    return Layout.of(Block(tuple(chunks), 0, True, 1), 1.0)


def test_process_layout_and_noise_are_told_apart_whatever_blocks_say():
    rng = random.Random(1)
    processes = [rng.gauss(0, PROCESS) for _ in range(300)]
    seen = nested([[drawn(rng, process) for _ in range(4)] for process in processes])
    assert math.sqrt(seen.process) == pytest.approx(PROCESS, rel=0.15)
    assert math.sqrt(seen.layout) == pytest.approx(LAYOUT, rel=0.1)
    assert seen.noise == pytest.approx(NOISE**2 * math.pi / 2 / CHUNKS, rel=0.2)
    assert seen.says > 1.4 * seen.noise
    assert abs(seen.mean) < 3 * PROCESS / math.sqrt(300)
