"""The laws of gradient accumulation: micro-batches give what the whole batch gives, whatever their labels.

Masks are ragged and windows partial: with equal lengths a mean of means is the mean, and hides for years.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import hypothesis.strategies as st
import pytest
import torch
from torch import Tensor

from perfsuite.errors import UsageError
from perfsuite.measure.step_memory import observe
from perfsuite.protocols import Recipe
from perfsuite.recipes.plain import PLAIN
from perfsuite.testing.contract import each
from perfsuite.testing.steps import (
    EXACT,
    StepContract,
    StepLaw,
    assert_near,
    made,
    reference,
    taken,
)
from perfsuite.testing.training import steps_once
from perfsuite.testing.training_samples import StepSample, step_samples
from perfsuite.training.run import LOSS, Training

_SLACK = 8  # of float32: how many roundings one micro-batch is worth


def adds_up_to_the_whole_batch(recipe: Recipe, sample: StepSample) -> None:
    """The gradients that the optimizer sees are those of one pass over the whole batch, in float64."""
    found = taken(made(recipe, sample, torch.float64), sample.batch_of(torch.float64))
    assert_near(found, _gradients(reference(sample)), EXACT)


def adds_up_in_float32(recipe: Recipe, sample: StepSample) -> None:
    """As above to float32's rounding, which grows with the root of the number of sums."""
    found = taken(made(recipe, sample), sample.batch_of(torch.float32))
    terms = sample.batch.labels.numel()
    assert_near(found, _gradients(reference(sample)), _SLACK * torch.finfo(torch.float32).eps * math.sqrt(terms))


def scales_a_partial_window(recipe: Recipe, sample: StepSample) -> None:
    """Where the data end there are fewer micro-batches, and a smaller last one: they are weighed by what they have."""
    adds_up_to_the_whole_batch(recipe, sample)


def logs_the_loss_of_the_whole_batch(recipe: Recipe, sample: StepSample) -> None:
    found = taken(made(recipe, sample, torch.float64), sample.batch_of(torch.float64))
    assert_near(found, {LOSS: reference(sample)[LOSS]}, EXACT)


def refuses_normalization_over_the_batch(recipe: Recipe, sample: StepSample) -> None:
    """By name: BatchNorm that sees parts of a batch makes another model."""
    with pytest.raises(UsageError, match=r"blocks\.0\.normalize"):
        made(recipe, sample)


def saves_less_than_the_whole_batch(recipe: Recipe, sample: StepSample) -> None:
    """What is alive of forward passes is that of one micro-batch: memory is what accumulation is for."""
    one, other = (
        observe(Training(sample.plan().model, sample.spec(), sample.batch_of(torch.float64), each, 0))
        for each in (recipe, PLAIN)
    )
    mine, whole = one.saved_bytes, other.saved_bytes
    assert mine < whole, f"{mine:,} bytes are saved for backward passes, and {whole:,} by the whole batch at once"


def _gradients(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in found.items() if name != LOSS}


ACCUMULATION_LAWS: tuple[StepLaw, ...] = (
    adds_up_to_the_whole_batch,
    adds_up_in_float32,
    scales_a_partial_window,
    steps_once,
    logs_the_loss_of_the_whole_batch,
    refuses_normalization_over_the_batch,
    saves_less_than_the_whole_batch,
)


class AccumulationContract(StepContract):
    """The laws of every way to accumulate gradients. ``micro_batches``: over how many it does."""

    laws = ACCUMULATION_LAWS
    micro_batches: ClassVar[int] = 4

    @each(ACCUMULATION_LAWS)
    def test_law(self, law: StepLaw) -> None:
        count = self.micro_batches
        whole = st.integers(1, 3).map(lambda each: each * count)
        partly = st.integers(count + 1, 3 * count - 1).filter(lambda size: size % count)
        if law is refuses_normalization_over_the_batch:
            samples = step_samples(("classes",), whole, norm="batch")
        elif law is scales_a_partial_window:
            samples = step_samples(self.tasks, partly)
        else:
            samples = step_samples(self.tasks, whole)
        self.check(law, samples)
