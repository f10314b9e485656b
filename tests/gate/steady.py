"""Blocks without any noise: a block's log ratio is exactly what it is given, and its own error is 0."""

from __future__ import annotations

from perfsuite.spec import BASE, CANDIDATE, ORIGINAL, YARDSTICK, Block, Chunk


def block(rounds=4, fresh=True, **arms_ms):
    """Two calls a chunk, rounds mirrored. Arms by name: the milliseconds of one call."""
    names = {"candidate": CANDIDATE, "base": BASE, "original": ORIGINAL, "yardstick": YARDSTICK}
    order = [(names[arm], ms) for arm, ms in arms_ms.items()]
    turns = [turn for number in range(rounds) for turn in (order if number % 2 == 0 else order[::-1])]
    return Block(tuple(Chunk(arm, (ms * 1e6, ms * 1e6)) for arm, ms in turns), seed=0, fresh=fresh, threads=2)


def beside(*ratios, base_ms=2.0):
    """One block for each ratio of the candidate to the base."""
    return tuple(block(candidate=base_ms * ratio, base=base_ms) for ratio in ratios)
