"""What a student learns from: batches in an order that a seed gives, which can be taken up at any place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, Protocol

import torch
from torch import Tensor

from perfsuite.errors import UsageError
from perfsuite.models.generators import random_state, seeded_everywhere, set_random_state
from perfsuite.protocols import Inputs

_POOL = 50  # batches whose examples are sorted by length


@dataclass(frozen=True)
class Batch:
    """Inputs with their labels. ``rows``: which examples they are, or the number of a batch that stays as it is.

    None where nobody knows, as of a DataLoader. ``answers``: the teacher's, where they are known already.
    """

    inputs: Inputs
    rows: tuple[int, ...] | int | None = None
    answers: Tensor | None = None


class Data(Protocol):
    """Batches by epoch. ``examples``: how many rows there are; 0 where batches have none."""

    @property
    def batches(self) -> int | None: ...

    @property
    def examples(self) -> int: ...

    @property
    def tensors(self) -> Iterable[Tensor]:
        """All of them, as far as they can be had without drawing: what tells data apart."""

    def epoch(self, seed: int, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch from the ``start``-th on: the same for the same seed and number."""

    def once(self) -> Iterator[Batch]:
        """Every row once, in an order that is always the same."""


@dataclass(frozen=True)
class Examples:
    """Examples that are rows of tensors; each epoch draws them into batches anew.

    Args:
        inputs: a tensor, a tuple of tensors or a dict of them, each with one row for each example.
        labels: a tensor with one row for each example; None for a student that only learns from its teacher.
        batch_size: examples in a batch.
        mask: the name of the input that is 1 for tokens and 0 for padding, of texts: examples of about one length
            come together, and what is padding in the whole batch is cut off.
        answers: the teacher's logits, one row for each example, where they are known (``teacher.answers_of``): then it
            is not asked.

    Raises:
        UsageError: no examples, or tensors with other numbers of rows.
    """

    inputs: Any
    labels: Tensor | None = None
    batch_size: int = 32
    mask: str = ""
    answers: Tensor | None = None

    def __post_init__(self) -> None:
        rows = {tensor.shape[0] for tensor in self.tensors}
        if len(rows) != 1 or 0 in rows:
            raise UsageError(f"the tensors have {sorted(rows)} rows", "give one row for each example, in all of them")
        if self.batch_size < 1:
            raise UsageError(f"batch_size is {self.batch_size}", "use at least 1")
        if self.mask and self.mask not in self._inputs.kwargs:
            raise UsageError(
                f"there is no input {self.mask!r}", f"there are {', '.join(self._inputs.kwargs) or 'none'}"
            )

    @cached_property
    def _inputs(self) -> Inputs:
        return Inputs.of(self.inputs)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Inputs, labels and answers."""
        given = (*self._inputs.args, *self._inputs.kwargs.values())
        return (*given, *(tensor for tensor in (self.labels, self.answers) if tensor is not None))

    @property
    def examples(self) -> int:
        return int(self.tensors[0].shape[0])

    @property
    def batches(self) -> int:
        return -(-self.examples // self.batch_size)

    @cached_property
    def _lengths(self) -> Tensor:
        mask: Tensor = self._inputs.kwargs[self.mask]
        return (mask != 0).sum(dim=1)

    def batch(self, rows: Tensor) -> Batch:
        """Those examples, padded to the longest of them."""
        kwargs = {name: tensor[rows] for name, tensor in self._inputs.kwargs.items()}
        if self.mask:
            width = self._inputs.kwargs[self.mask].shape[1]
            used = kwargs[self.mask].any(dim=0).nonzero()
            first, last = (int(used.min()), int(used.max()) + 1) if len(used) else (0, width)
            kwargs = {name: x[:, first:last] if x.shape[1:2] == (width,) else x for name, x in kwargs.items()}
        args = tuple(tensor[rows] for tensor in self._inputs.args)
        labels, answers = (None if tensor is None else tensor[rows] for tensor in (self.labels, self.answers))
        return Batch(Inputs(args, kwargs, labels), tuple(rows.tolist()), answers)

    def epoch(self, seed: int, number: int, start: int = 0) -> Iterator[Batch]:
        generator = _generator(seed, number)
        order = torch.randperm(self.examples, generator=generator)
        if self.mask:
            pools = order.split(_POOL * self.batch_size)
            order = torch.cat([pool[self._lengths[pool].argsort(stable=True)] for pool in pools])
        batches = order.split(self.batch_size)
        for index in torch.randperm(len(batches), generator=generator)[start:].tolist():
            yield self.batch(batches[index])

    def once(self) -> Iterator[Batch]:
        order = self._lengths.argsort(stable=True) if self.mask else torch.arange(self.examples)
        return map(self.batch, order.split(self.batch_size))


@dataclass(frozen=True)
class _Listed:
    """Batches in a list, which stay as they are; each epoch draws their order."""

    given: Sequence[Any]

    @property
    def batches(self) -> int:
        return len(self.given)

    @property
    def examples(self) -> int:
        return len(self.given)

    @property
    def tensors(self) -> Iterator[Tensor]:
        return (tensor for batch in self.once() for tensor in tensors_of(batch.inputs))

    def epoch(self, seed: int, number: int, start: int = 0) -> Iterator[Batch]:
        order = torch.randperm(len(self.given), generator=_generator(seed, number))
        return (self._batch(index) for index in order[start:].tolist())

    def once(self) -> Iterator[Batch]:
        return map(self._batch, range(len(self.given)))

    def _batch(self, index: int) -> Batch:
        return Batch(Inputs.of_batch(self.given[index]), index)


@dataclass(frozen=True)
class _Loaded:
    """A DataLoader, or whatever else can be read again. What it draws, it draws apart from what training draws."""

    given: Any

    @property
    def batches(self) -> int | None:
        return len(self.given) if hasattr(self.given, "__len__") else None

    @property
    def examples(self) -> int:
        return 0

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return ()

    def epoch(self, seed: int, number: int, start: int = 0) -> Iterator[Batch]:
        """A generator that a DataLoader has been given is seeded, too: else its order could not be drawn again."""
        drawn = (seed * 1_000_003 + number) % 2**32
        own = getattr(self.given, "generator", None)
        if isinstance(own, torch.Generator):
            own.manual_seed(drawn)
        with seeded_everywhere(drawn):
            batches, state = iter(self.given), random_state()
        return islice(_apart(batches, state), start, None)

    def once(self) -> Iterator[Batch]:
        return iter(())


def _apart(batches: Iterator[Any], state: Mapping[str, Any]) -> Iterator[Batch]:
    """Each batch is made with random generators of its own, which go on from ``state``."""
    while True:
        outside = random_state()
        set_random_state(state)
        try:
            made = next(batches, None)
            state = random_state()
        finally:
            set_random_state(outside)
        if made is None:
            return
        yield Batch(Inputs.of_batch(made))


def tensors_of(inputs: Inputs) -> Iterator[Tensor]:
    given = (*inputs.args, *inputs.kwargs.values(), inputs.labels)
    return (value for value in given if isinstance(value, Tensor))


def data_of(given: Any) -> Data:
    """What a user gives: ``Examples``, a list of batches, or a DataLoader. Batches are as for calibration.

    Raises UsageError for what can be read only once, or not at all.
    """
    if isinstance(given, Examples):
        return given
    if isinstance(given, list | tuple):
        if not given:
            raise UsageError("the list of batches is empty", "give at least one batch")
        return _Listed(given)
    if not isinstance(given, Iterable) or isinstance(given, Iterator | Tensor | Mapping):
        raise UsageError(
            f"a {type(given).__name__} cannot be read in each epoch",
            "give a DataLoader, a list of batches, or perfsuite.distillation.data.Examples(inputs, labels)",
        )
    return _Loaded(given)


def _generator(seed: int, number: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed * 1_000_003 + number)
