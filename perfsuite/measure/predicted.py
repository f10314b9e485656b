"""The memory of a training step, known before it is made: shapes walk through the step, and nothing is computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from perfsuite._compat.torch import faked
from perfsuite.errors import UsageError, first_line
from perfsuite.measure.step_memory import StepMemory, observe
from perfsuite.protocols import Inputs, ModelSpec, Recipe
from perfsuite.training.batches import batch_size_of
from perfsuite.training.run import Training

LARGEST = 2**20  # examples in a batch: who has room for more is not helped by knowing it


def predicted(model: nn.Module, spec: ModelSpec, example: Inputs, recipe: Recipe, batch_size: int) -> StepMemory:
    """Of one step of a batch of that size, whose other dimensions are those of ``example``, a labelled batch.

    Raises UsageError where the step asks for values that a shape does not have (a branch on a tensor, ``item()``).
    """
    fake, mode = faked(model)
    with mode:
        batch = resized(example, batch_size)
        shaped = replace(spec, data=lambda module, size, seed: [batch])
        try:
            return observe(Training(fake, shaped, batch, recipe))
        except (RuntimeError, NotImplementedError) as error:
            raise UsageError(
                f"the step of {spec.name!r} cannot be followed without values: {first_line(error)}",
                "measure it: gate peak_memory with workload='train'",
            ) from error


def resized(batch: Inputs, size: int) -> Inputs:
    """The same with another number of examples: zeros, which take no memory where nothing is computed."""
    given = batch_size_of(batch)

    def one(value: Any) -> Any:
        is_of_batch = isinstance(value, Tensor) and value.dim() and value.shape[0] == given
        return torch.zeros((size, *value.shape[1:]), dtype=value.dtype, device=value.device) if is_of_batch else value

    kwargs = {name: one(value) for name, value in batch.kwargs.items()}
    return replace(batch, args=tuple(map(one, batch.args)), kwargs=kwargs, labels=one(batch.labels))


def smallest_batch(recipe: Recipe) -> int:
    """That a step of the recipe can be made of: an example for each micro-batch."""
    parts = getattr(recipe, "parts", (recipe,))
    return max(getattr(part, "micro_batches", 1) for part in parts)


def largest_batch(peak: Callable[[int], int], limit: int, smallest: int = 1) -> int:
    """The largest batch whose peak, in bytes, is within the limit: 0 where none is, and LARGEST at most.

    ``peak`` grows with the batch, from ``smallest`` on.
    """
    fits, too_large = 0, smallest
    while too_large <= LARGEST and peak(too_large) <= limit:
        fits, too_large = too_large, 2 * too_large
    while 0 < fits < LARGEST and too_large - fits > 1:
        middle = (fits + too_large) // 2
        fits, too_large = (middle, too_large) if peak(middle) <= limit else (fits, middle)
    return fits
