"""Blocks from external samples: calls that another tool has timed, and times relative to a second.

The arms of such a block were not sampled alternately, so that what changed on the machine between them does not
cancel. The block may acquit a case; a case that it would convict is sampled again.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

from perfsuite.spec import CANDIDATE, YARDSTICK, Block, Chunk

SECOND_NS = 1e9
MOST_CHUNKS = 10  # enough to show their scatter


def beside_seconds(block: Block) -> Block:
    """The block with a second beside each of the candidate's chunks: log ratios to it are those of raw time."""
    second = Chunk(YARDSTICK, (SECOND_NS,))
    chunks = ([chunk, second] if chunk.arm == CANDIDATE else [chunk] for chunk in block.chunks)
    return replace(block, chunks=tuple(itertools.chain.from_iterable(chunks)))


def with_calls(block: Block, arm: str, calls_ns: Sequence[float]) -> Block:
    """The block, which has at most one other arm, with the calls of ``arm`` dealt out in order beside its chunks."""
    number = min(len(block.chunks) or MOST_CHUNKS, len(calls_ns))
    dealt = [Chunk(arm, tuple(part)) for part in _parts(calls_ns, number)]
    pairs = itertools.zip_longest(dealt, block.chunks[:number])
    mirrored = (pair if index % 2 == 0 else pair[::-1] for index, pair in enumerate(pairs))
    return replace(block, chunks=tuple(chunk for pair in mirrored for chunk in pair if chunk is not None))


def _parts(values: Sequence[float], number: int) -> list[Sequence[float]]:
    """Consecutive parts of nearly equal length."""
    ends = [round(index * len(values) / number) for index in range(number + 1)]
    return [values[start:end] for start, end in itertools.pairwise(ends)]
