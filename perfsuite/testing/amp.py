"""The laws of automatic mixed precision: half where it computes, float32 where it keeps, and a scale that cancels out.

In float64 autocast changes nothing, and scales that are powers of two are exact: what a scale changes there is a fault.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import SGD

from perfsuite.protocols import Recipe
from perfsuite.recipes.one_cycle import OneCycle
from perfsuite.testing.contract import each
from perfsuite.testing.steps import (
    StepContract,
    StepLaw,
    counted,
    differing,
    made,
    make_of,
    schedule_of,
    state,
    taken,
)
from perfsuite.testing.training_samples import StepSample, step_samples
from perfsuite.training.plan import StepPlan
from perfsuite.training.step import Step, make_step

_HALF = (torch.float16, torch.bfloat16)
_STEPS = 3
_NEVER = 2000  # steps until the scale grows, as GradScaler has it
_SHORT = 1e-3  # a norm that all gradients are clipped to


def does_not_depend_on_the_scale(recipe: Recipe, sample: StepSample) -> None:
    """Bit for bit, for scales that are powers of two, and where the scale grows after each step."""
    _check_scales(recipe, sample, lambda plan: plan)


def clips_unscaled_gradients(recipe: Recipe, sample: StepSample) -> None:
    """What is clipped are the gradients of the loss, not those of a loss thousands of times as large."""
    clip = partial(clip_grad_norm_, max_norm=_SHORT)
    _check_scales(recipe, sample, lambda plan: replace(plan, on_gradients=(*plan.on_gradients, clip)))


def gives_what_no_scaling_gives(recipe: Recipe, sample: StepSample) -> None:
    """In float64, where autocast and scales change nothing: the bits of the step without them."""
    mine, plain = make_step(recipe.apply(_unscaled(sample))), make_step(_unscaled(sample))
    batch = sample.batch_of(torch.float64)
    for number in range(1, _STEPS + 1):
        found = differing(taken(mine, batch), taken(plain, batch))
        assert not found, f"step {number} is otherwise without mixed precision: {found}"


def a_skipped_step_changes_nothing(recipe: Recipe, sample: StepSample) -> None:
    """An infinite gradient: weights, moments and schedule stay as they are, bit for bit; the next step is made."""
    step = made(recipe, sample, change=OneCycle())
    batch = sample.batch_of(torch.float32)
    _skip_without_scaler(step)
    taken(step, batch)
    before = state(step)
    with counted(step.optimizer) as steps:
        with _infinite(step.model):
            taken(step, batch)
        changed = differing(before, state(step))
        assert not steps, "an infinite gradient was stepped along"
        assert not changed, f"a step that was skipped has changed {changed}"
        taken(step, batch)
    assert len(steps) == 1, "the step after one that was skipped is skipped, too"


def every_attempt_is_a_step_or_skipped(recipe: Recipe, sample: StepSample) -> None:
    """And the schedule moves with steps alone."""
    step = made(recipe, sample, change=OneCycle())
    _skip_without_scaler(step)
    batch, begun = sample.batch_of(torch.float32), schedule_of(step)
    with counted(step.optimizer) as steps:
        taken(step, batch)
        with _infinite(step.model):
            taken(step, batch)
        taken(step, batch)
    moved = schedule_of(step) - begun
    assert len(steps) == 2, f"of three attempts, one with an infinite gradient, {len(steps)} were steps"
    assert step.schedule is None or moved == len(steps), f"the schedule moved {moved} times in {len(steps)} steps"


def keeps_what_it_keeps_in_float32(recipe: Recipe, sample: StepSample) -> None:
    """Parameters, gradients and moments."""
    found = taken(made(recipe, sample), sample.batch_of(torch.float32))
    half = [name for name, value in found.items() if value.dtype in _HALF]
    assert not half, f"these are kept in half precision: {half}"


def computes_in_half_precision(recipe: Recipe, sample: StepSample) -> None:
    """Else it would be mixed in name alone."""
    step = made(recipe, sample)
    with _outputs_of_linears(step.model) as seen:
        taken(step, sample.batch_of(torch.float32))
    assert seen, "no linear layer was called"
    assert set(seen) <= set(_HALF), f"a linear layer computes in {next(one for one in seen if one not in _HALF)}"


AMP_LAWS: tuple[StepLaw, ...] = (
    does_not_depend_on_the_scale,
    clips_unscaled_gradients,
    gives_what_no_scaling_gives,
    a_skipped_step_changes_nothing,
    every_attempt_is_a_step_or_skipped,
    keeps_what_it_keeps_in_float32,
    computes_in_half_precision,
)


class AmpContract(StepContract):
    """The laws of every mixed-precision step; those of scaling are skipped where the step has no scaler."""

    laws = AMP_LAWS

    @each(AMP_LAWS)
    def test_law(self, law: StepLaw) -> None:
        self.check(law, step_samples(self.tasks))


def _check_scales(recipe: Recipe, sample: StepSample, change: Callable[[StepPlan], StepPlan]) -> None:
    expected: dict[str, Tensor] = {}
    for scale, interval in ((2.0**8, _NEVER), (2.0**16, _NEVER), (2.0**8, 1)):
        step = make_of(recipe, _unscaled(sample), change)
        _skip_without_scaler(step)
        _set_scale(step, scale, interval)
        for _ in range(_STEPS):
            found = taken(step, sample.batch_of(torch.float64))
        expected = expected or found
        others = differing(expected, found)
        grows = ", grown after each step," if interval == 1 else ""
        assert not others, f"a scale of {scale:g}{grows} gives another step than one of 256: {others}"


def _unscaled(sample: StepSample) -> StepPlan:
    """By plain gradient descent: Adam would hide a constant factor of the gradients."""
    return replace(sample.plan(torch.float64), make_optimizer=partial(SGD, lr=0.1))


def _set_scale(step: Step, scale: float, interval: int) -> None:
    assert step.scaler is not None
    step.scaler.load_state_dict(
        {**step.scaler.state_dict(), "scale": scale, "growth_interval": interval, "_growth_tracker": 0}
    )


def _skip_without_scaler(step: Step) -> None:
    if step.scaler is None:
        pytest.skip("its loss is not scaled")


@contextmanager
def _infinite(model: nn.Module) -> Iterator[None]:
    """While open, the gradient of the first parameter is infinite."""
    parameter = next(each for each in model.parameters() if each.requires_grad)
    handle = parameter.register_hook(lambda gradient: torch.full_like(gradient, float("inf")))
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _outputs_of_linears(model: nn.Module) -> Iterator[list[torch.dtype]]:
    seen: list[torch.dtype] = []
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    handles = [layer.register_forward_hook(lambda _, __, output: seen.append(output.dtype)) for layer in layers]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
