"""A batch of examples, and the micro-batches that it is split into."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from torch import Tensor

from perfsuite.errors import UsageError
from perfsuite.protocols import Inputs


def batch_size_of(batch: Inputs) -> int:
    """How many examples it has: the first dimension of its first tensor. Raises UsageError where there is none."""
    values = (*batch.args, *batch.kwargs.values())
    first = next((value for value in values if isinstance(value, Tensor) and value.dim()), None)
    if first is None:
        raise UsageError("a batch holds no tensor with a first dimension", "let the examples be the first dimension")
    return int(first.shape[0])


def split(batch: Inputs, parts: int) -> Iterator[Inputs]:
    """At most so many micro-batches, in order: as ``torch.chunk`` has it, the last one may be smaller.

    Tensors whose first dimension is the batch are split, all else goes to each of them. Raises UsageError for a
    batch that has fewer examples than parts.
    """
    size = batch_size_of(batch)
    if parts == 1:
        yield batch
        return
    if size < parts:
        raise UsageError(
            f"a batch of {size} cannot be split into {parts} micro-batches",
            f"accumulate over at most {size}, or gate a larger batch size",
        )
    rows = -(-size // parts)
    yield from _cut(batch, size, [*range(0, size, rows), size])


def shares(batch: Inputs, ranks: int) -> list[Inputs]:
    """One for each process, in order; their sizes differ by one at most. Raises UsageError where there are too few."""
    size = batch_size_of(batch)
    if size < ranks:
        raise UsageError(f"a batch of {size} has no share for each of {ranks} ranks", "gate a larger batch size")
    return list(_cut(batch, size, [size * rank // ranks for rank in range(ranks + 1)]))


def _cut(batch: Inputs, size: int, places: Sequence[int]) -> Iterator[Inputs]:
    for start, end in pairwise(places):
        args = tuple(_part(value, size, start, end) for value in batch.args)
        kwargs = {name: _part(value, size, start, end) for name, value in batch.kwargs.items()}
        yield replace(batch, args=args, kwargs=kwargs, labels=_part(batch.labels, size, start, end))


def _part(value: Any, size: int, start: int, end: int) -> Any:
    if isinstance(value, Tensor) and value.dim() and value.shape[0] == size:
        return value[start:end]
    return value
