"""Blocks as the engine hands them over, with noise of known kinds laid upon the chunks."""

from __future__ import annotations

import math
import random

from perfsuite.measure.latency import orders
from perfsuite.spec import Block, Chunk


def normal(rng, number, chunk):
    return [rng.gauss(0, chunk) for _ in range(number)]


def heavy_tailed(rng, number, chunk):
    """Student's t with 3 degrees of freedom."""
    return [chunk * rng.gauss(0, 1) / math.sqrt(rng.gammavariate(1.5, 2) / 3) for _ in range(number)]


def bursty(rng, number, chunk):
    """A neighbour takes the machine for stretches of chunks: everything takes 1.5 to 3 times as long."""
    logs, left, height = [], 0, 0.0
    for _ in range(number):
        if not left and rng.random() < 0.07:
            left, height = rng.randint(1, 6), math.log(rng.uniform(1.5, 3))
        logs.append(rng.gauss(0, chunk) + (height if left else 0))
        left = max(left - 1, 0)
    return logs


def drifting(rng, number, chunk):
    """A slope and a random walk: often a third slower at the end than at the start."""
    slope, walk, logs = rng.gauss(0, chunk), 0.0, []
    for index in range(number):
        walk += rng.gauss(0, chunk / 2)
        logs.append(slope * index + walk + rng.gauss(0, chunk))
    return logs


def bimodal(rng, number, chunk):
    """Two clock speeds, 15% apart, each held for a few chunks."""
    fast, logs = rng.random() < 0.5, []
    for _ in range(number):
        fast ^= rng.random() < 0.2
        logs.append(0.15 * fast + rng.gauss(0, chunk))
    return logs


KINDS = (normal, heavy_tailed, bursty, drifting, bimodal)


def block(rng, effect=0.0, between=0.0, noise=normal, rounds=8, chunk=0.02):
    """Two arms take turns as in perfsuite.measure. Eight rounds make 13 ratios.

    ``effect`` is log(a / b), ``between`` its standard deviation from block to block, ``chunk`` that of
    one chunk's log time.
    """
    turns = [arm for order in orders(("a", "b"), rounds, rng.getrandbits(32)) for arm in order]
    shift = {"a": effect + rng.gauss(0, between)}
    logs = noise(rng, len(turns), chunk)
    chunks = (Chunk(arm, (1e6 * math.exp(log + shift.get(arm, 0.0)),)) for arm, log in zip(turns, logs, strict=True))
    return Block(tuple(chunks), seed=0, fresh=True, threads=1)


def draw(seed, number, **kwargs):
    """So many blocks from one seed."""
    rng = random.Random(seed)
    return [block(rng, **kwargs) for _ in range(number)]
