"""Where a model and its inputs come from: a name, a ModelSpec, or a module with an input generator."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from perfsuite.errors import UsageError
from perfsuite.models.devices import resolve_device
from perfsuite.models.generators import seeded_everywhere
from perfsuite.models.ready import ready
from perfsuite.models.zoo import model_spec
from perfsuite.protocols import Inputs, ModelSpec, Task

Generator = Callable[[int], Any]
"""Batch size -> a tensor, a tuple of arguments, a dict of keywords, or Inputs; the batch comes first."""

_CALIBRATION_BATCHES = 4


@dataclass(frozen=True)
class Source:
    """A model, ready to be called, with what feeds and what scores it. ``make``: (batch size, seed) -> inputs."""

    name: str
    module: Any
    make: Callable[[int, int], Any]
    make_task: Callable[[], Task] | None = None
    weights: str = ""

    @cached_property
    def task(self) -> Task | None:
        return self.make_task() if self.make_task else None

    def inputs(self, batch_size: int, seed: int, device: torch.device) -> Inputs:
        """Seeded inputs on the device."""
        with seeded_everywhere(seed):
            return Inputs.of(self.make(batch_size, seed)).to(device)

    def batch(self, batch_size: int, seed: int, device: torch.device) -> Inputs:
        """The same. Raises UsageError if they are no batch of that size."""
        made = self.inputs(batch_size, seed, device)
        _check_batch(made, batch_size)
        return made

    def calibration(self, batch_size: int, seed: int) -> Calibration:
        return Calibration(self, batch_size, seed)

    def follows_seed(self, batch_size: int, seed: int) -> bool:
        """Whether the same seed makes the same inputs again."""
        cpu = torch.device("cpu")
        one, other = (_tensors(self.batch(batch_size, seed, cpu)) for _ in range(2))
        return len(one) == len(other) and all(map(torch.equal, one, other))


@dataclass(frozen=True)
class Calibration:
    """Data for techniques that want some, made when it is read: the task's, else inputs from other seeds."""

    source: Source
    batch_size: int
    seed: int

    def __iter__(self) -> Iterator[Inputs]:
        of_task = getattr(self.source.task, "calibration", None)
        if of_task is not None:
            yield from of_task()
            return
        for number in range(1, 1 + _CALIBRATION_BATCHES):
            seed = (self.seed + number) % 2**32
            with seeded_everywhere(seed):
                yield Inputs.of_batch(self.source.make(self.batch_size, seed))


def source(
    model: Any,
    generator: Generator | None = None,
    task: Task | None = None,
    *,
    seed: int = 0,
    device: str = "cpu",
) -> Source:
    """What a user gives as a model. Names and specs are built on ``device``; a module stays where it is.

    Raises UnknownNameError for a name that is none, UsageError for a module without an input generator.
    """
    if isinstance(model, str):
        model = model_spec(model)
    if isinstance(model, ModelSpec):
        return _of_spec(model, generator, task, seed, device)
    if generator is None:
        raise UsageError(
            f"a {type(model).__name__} does not say what to feed it",
            "give input_generator=, a function of the batch size, or the name of a model",
        )
    if not callable(generator):
        raise UsageError(f"input_generator is a {type(generator).__name__}", "give a function of the batch size")
    return Source(_name_of(model), model, partial(_generated, generator), _maker(task))


def check_batch_sizes(batch_sizes: Sequence[int]) -> tuple[int, ...]:
    """Each size once, in the order given. Raises UsageError for none, or for what is no size."""
    sizes = tuple(dict.fromkeys([batch_sizes] if isinstance(batch_sizes, int) else batch_sizes))
    if not sizes:
        raise UsageError("batch_sizes is empty: nothing would be measured", "give at least one, such as [1, 8]")
    for size in sizes:
        if type(size) is not int or size < 1:
            raise UsageError(f"batch size {size!r} is not possible", "use whole numbers from 1")
    return sizes


def about_source(found: Source, batch_size: int, seed: int) -> Iterator[str]:
    """What a report must say of where its numbers come from."""
    if found.weights:
        yield f"weights of {found.name}: {found.weights}"
    if not found.follows_seed(batch_size, seed):
        yield "the input generator does not follow the seed: all variants had the same inputs, another run has others"


def _of_spec(spec: ModelSpec, generator: Generator | None, task: Task | None, seed: int, device: str) -> Source:
    built = spec.build(seed)
    module = ready(spec, built.module, resolve_device(device))
    make = partial(spec.inputs, module) if generator is None else partial(_generated, generator)
    return Source(spec.name + built.suffix, module, make, _maker(task) or spec.task, built.weights)


def _maker(task: Task | None) -> Callable[[], Task] | None:
    return None if task is None else lambda: task


def _generated(generator: Generator, batch_size: int, seed: int) -> Any:
    """The generator knows no seed: the generators of torch, NumPy and Python are seeded around it."""
    return generator(batch_size)


def _check_batch(made: Inputs, batch_size: int) -> None:
    first = next(iter(_tensors(made)), None)
    if first is None:
        kinds = ", ".join(type(value).__name__ for value in (*made.args, *made.kwargs.values()))
        raise UsageError(
            f"the input generator gave no tensor, but {kinds or 'nothing'}",
            "return a tensor, a tuple of arguments, or a dict of keywords",
        )
    if first.dim() == 0 or first.shape[0] != batch_size:
        raise UsageError(
            f"the input generator was asked for a batch of {batch_size} and gave shape {tuple(first.shape)}",
            "make the first dimension the batch size that it is called with",
        )


def _tensors(made: Inputs) -> list[Tensor]:
    return [value for value in (*made.args, *made.kwargs.values()) if isinstance(value, Tensor)]


def _name_of(model: Any) -> str:
    return getattr(model, "__name__", type(model).__name__)
