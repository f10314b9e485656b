"""The laws of gradient checkpointing: the same numbers bit for bit, for one more forward pass and less memory."""

from __future__ import annotations

from typing import ClassVar

import hypothesis.strategies as st
import pytest
import torch

from perfsuite.measure.step_memory import StepMemory, observe
from perfsuite.measure.trace import trace
from perfsuite.protocols import Recipe
from perfsuite.recipes.amp import Amp
from perfsuite.recipes.plain import PLAIN
from perfsuite.testing.contract import each
from perfsuite.testing.steps import StepContract, StepLaw, check, differing, made, taken
from perfsuite.testing.training_samples import StepSample, step_samples
from perfsuite.training.run import Training

_BF16 = Amp("bf16")


def computes_the_same_bit_for_bit(recipe: Recipe, sample: StepSample) -> None:
    """Loss, gradients, weights, and the state that random numbers are left in, with dropout; buffers move once."""
    _check_same(recipe, sample, PLAIN)


def computes_the_same_under_autocast(recipe: Recipe, sample: StepSample) -> None:
    """What is computed again is computed in the same precision."""
    _check_same(recipe, sample, _BF16)


def computes_the_same_where_layers_draw(recipe: Recipe, sample: StepSample) -> None:
    """Blocks that end in RReLU: torch stops to compute them again before its numbers are drawn, and says nothing."""
    _check_same(recipe, sample, PLAIN)


def moves_statistics_once(recipe: Recipe, sample: StepSample) -> None:
    """Those of BatchNorm, which forward passes change."""
    _check_same(recipe, sample, PLAIN)


def computes_one_forward_pass_more_at_most(recipe: Recipe, sample: StepSample) -> None:
    mine, plain = _seen(recipe, sample), _seen(PLAIN, sample)
    most = plain.flops + plain.forward_flops
    assert mine.flops <= most, f"{mine.flops:,} FLOPs are more than the {most:,} of a step and one forward pass"


def computes_something_again(recipe: Recipe, sample: StepSample) -> None:
    """Else nothing is checkpointed. Not all that is computed again has FLOPs: operators are counted."""
    mine, plain = (sum(_operators(each, sample).values()) for each in (recipe, PLAIN))
    assert mine > plain, f"{mine} operators are called, and {plain} in a plain step: nothing is computed again"


def saves_less_for_the_backward_pass(recipe: Recipe, sample: StepSample) -> None:
    mine, plain = _seen(recipe, sample).saved_bytes, _seen(PLAIN, sample).saved_bytes
    assert mine < plain, f"{mine:,} bytes are saved for the backward pass, and {plain:,} without checkpoints"


CHECKPOINT_LAWS: tuple[StepLaw, ...] = (
    computes_the_same_bit_for_bit,
    computes_the_same_under_autocast,
    computes_the_same_where_layers_draw,
    moves_statistics_once,
    computes_one_forward_pass_more_at_most,
    computes_something_again,
    saves_less_for_the_backward_pass,
)


class CheckpointContract(StepContract):
    """The laws of every way to checkpoint. ``saved``: operators whose results a selective policy keeps, by name."""

    laws = CHECKPOINT_LAWS
    saved: ClassVar[frozenset[str]] = frozenset()

    @each(CHECKPOINT_LAWS)
    def test_law(self, law: StepLaw) -> None:
        if law is moves_statistics_once:
            samples = step_samples(("classes",), norm="batch", dropout=0.3)
        elif law is computes_the_same_where_layers_draw:
            samples = step_samples(self.tasks, rrelu=True)
        else:
            samples = step_samples(self.tasks, st.integers(4, 9), dropout=0.3)
        self.check(law, samples)

    def test_saved_operators_are_called_once(self) -> None:
        if not self.saved:
            pytest.skip("it says of no operator that its result is saved")

        def holds(recipe: Recipe, sample: StepSample) -> None:
            mine, plain = _operators(recipe, sample), _operators(PLAIN, sample)
            again = {name: mine.get(name, 0) for name in self.saved if mine.get(name) != plain.get(name)}
            assert not again, f"these are said to be saved, and are called more often than in a plain step: {again}"

        check(holds, self.subject(), step_samples(self.tasks), self.max_examples)


def _check_same(recipe: Recipe, sample: StepSample, change: Recipe) -> None:
    batch = sample.batch_of(torch.float32)
    mine, plain = (taken(made(each, sample, change=change), batch) for each in (recipe, PLAIN))
    assert not differing(mine, plain), f"without checkpoints these are otherwise: {differing(mine, plain)}"


def _training(recipe: Recipe, sample: StepSample) -> Training:
    return Training(sample.plan().model, sample.spec(), sample.batch_of(torch.float64), recipe)


def _seen(recipe: Recipe, sample: StepSample) -> StepMemory:
    return observe(_training(recipe, sample))


def _operators(recipe: Recipe, sample: StepSample) -> dict[str, int]:
    training = _training(recipe, sample)
    return trace(training.once, training.held).operators
