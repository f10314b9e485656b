"""The laws of a training step: it is repeatable, taken back bit for bit, made once, and on the schedule.

A law is a function of a recipe and a drawn sample. Gradients are compared, not losses: optimizers hide what is wrong
with them, and loss curves hide it longer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from hypothesis.strategies import SearchStrategy

from perfsuite.protocols import Recipe
from perfsuite.recipes.one_cycle import OneCycle
from perfsuite.testing.contract import each
from perfsuite.testing.steps import (
    EXACT,
    StepContract,
    StepLaw,
    assert_near,
    counted,
    differing,
    made,
    reference,
    schedule_of,
    state,
    taken,
)
from perfsuite.testing.training_samples import StepSample, step_samples
from perfsuite.training.run import Training
from perfsuite.training.step import make_step

_CYCLE = 8  # steps


def makes_the_same_step_twice(recipe: Recipe, sample: StepSample) -> None:
    """From the same state and seed: the same bits of loss, gradients, weights, buffers, moments, random numbers."""
    one, other = (taken(made(recipe, sample), sample.batch_of(torch.float32)) for _ in range(2))
    assert not differing(one, other), f"two steps from the same state differ in {differing(one, other)}"


def is_taken_back_bit_for_bit(recipe: Recipe, sample: StepSample) -> None:
    """After a step and a restore the model, the optimizer and the schedule are what they were."""
    plan = sample.plan(torch.float32)
    training = Training(plan.model, sample.spec(torch.float32), plan.example, recipe)
    training.restore()
    before = state(training.step)
    first = training.outputs()
    training.restore()
    changed = differing(before, state(training.step))
    assert not changed, f"after a step was taken back, these are not what they were: {changed}"
    again = training.outputs()
    assert not differing(first, again), f"the step that follows differs in {differing(first, again)}"


def forgets_the_gradients_of_before(recipe: Recipe, sample: StepSample) -> None:
    """What is left in the parameters' gradients from elsewhere changes nothing."""
    clean, stale = made(recipe, sample), made(recipe, sample)
    for parameter in stale.model.parameters():
        parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    batch = sample.batch_of(torch.float32)
    found = differing(taken(clean, batch), taken(stale, batch))
    assert not found, f"old gradients were added to those of the step: {found}"


def descends_along_the_gradient_of_the_loss(recipe: Recipe, sample: StepSample) -> None:
    """The gradients that the optimizer sees are those of the mean loss over the whole batch, in float64."""
    assert_near(taken(made(recipe, sample, torch.float64), sample.batch_of(torch.float64)), reference(sample), EXACT)


def steps_once(recipe: Recipe, sample: StepSample) -> None:
    """One step of the optimizer for each call, and one of the schedule, if there is one."""
    step = made(recipe, sample, change=OneCycle())
    with counted(step.optimizer) as steps:
        for number in range(1, 4):
            before = schedule_of(step)
            taken(step, sample.batch_of(torch.float32))
            assert len(steps) == number, f"the optimizer has made {len(steps)} steps in {number} calls"
            moved = schedule_of(step) - before
            assert moved == (step.schedule is not None), f"the schedule has moved {moved} times in one step"


def follows_the_schedule(recipe: Recipe, sample: StepSample) -> None:
    """One cycle: up to the optimizer's learning rate at 30% of the steps, down to the closed form's end, not beyond."""
    plan = replace(sample.plan(torch.float32), steps=_CYCLE)
    highest = [group["lr"] for group in plan.make_optimizer(list(plan.model.parameters())).param_groups]
    step = make_step(recipe.apply(OneCycle().apply(plan)))
    rates: list[float] = []
    handle = step.optimizer.register_step_pre_hook(lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"]))
    try:
        for _ in range(_CYCLE):
            taken(step, plan.example)
    finally:
        handle.remove()
    expected = [_one_cycle(highest[0], number, _CYCLE) for number in range(_CYCLE)]
    alike = [math.isclose(one, other, rel_tol=1e-6) for one, other in zip(rates, expected, strict=False)]
    assert len(rates) == _CYCLE, f"the optimizer has made {len(rates)} steps of {_CYCLE}"
    assert all(alike), f"at step {alike.index(False) + 1} the rate is not that of the schedule: {rates} for {expected}"


def updates_buffers_once(recipe: Recipe, sample: StepSample) -> None:
    """The statistics of BatchNorm are those of one forward pass on the whole batch."""
    step = made(recipe, sample, torch.float64)
    expected = sample.plan().model.train()
    expected(*sample.batch_of(torch.float64).args)
    taken(step, sample.batch_of(torch.float64))
    for name, buffer in expected.named_buffers():
        found = dict(step.model.named_buffers())[name]
        assert torch.allclose(found, buffer, rtol=EXACT, atol=0), f"{name} is {found}, not {buffer}: it moved otherwise"


def leaves_frozen_parts_as_they_are(recipe: Recipe, sample: StepSample) -> None:
    """Bytes and mode of what is not trained (a teacher, an encoder), and no gradients for it."""
    step = made(recipe, sample)
    frozen = step.model.get_submodule("frozen")
    before = {name: value.clone() for name, value in frozen.state_dict().items()}
    with _modes_of(frozen) as seen:
        taken(step, sample.batch_of(torch.float32))
    assert not differing(before, frozen.state_dict()), (
        f"not trained, and changed: {differing(before, frozen.state_dict())}"
    )
    assert not any(seen), "what is not trained, and was in eval mode, is called in train mode"
    graded = [name for name, parameter in frozen.named_parameters() if parameter.grad is not None]
    assert not graded, f"gradients were computed of what is not trained: {graded}"


TRAIN_STEP_LAWS: tuple[StepLaw, ...] = (
    makes_the_same_step_twice,
    is_taken_back_bit_for_bit,
    forgets_the_gradients_of_before,
    descends_along_the_gradient_of_the_loss,
    steps_once,
    follows_the_schedule,
    updates_buffers_once,
    leaves_frozen_parts_as_they_are,
)
_DROPPING = (makes_the_same_step_twice, is_taken_back_bit_for_bit)


class TrainStepContract(StepContract):
    """The laws of every training step."""

    laws = TRAIN_STEP_LAWS

    @each(TRAIN_STEP_LAWS)
    def test_law(self, law: StepLaw) -> None:
        self.check(law, self.samples_for(law))

    def samples_for(self, law: StepLaw) -> SearchStrategy[StepSample]:
        if law is updates_buffers_once:
            return step_samples(("classes",), norm="batch")
        if law is leaves_frozen_parts_as_they_are:
            return step_samples(("classes",), norm="batch", frozen=True)
        return step_samples(self.tasks, dropout=0.3 if law in _DROPPING else 0.0)


@contextmanager
def _modes_of(module: torch.nn.Module) -> Iterator[list[bool]]:
    """Of each of its parts, whenever it is called, whether it is in train mode."""
    seen: list[bool] = []
    handles = [part.register_forward_pre_hook(lambda part, _: seen.append(part.training)) for part in module.modules()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _one_cycle(highest: float, step: int, steps: int) -> float:
    """Smith 2018 as torch has it: from a 25th, by cosines, at last to a 10,000th of that."""
    lowest, peak = highest / 25, 0.3 * steps - 1
    if step <= peak:
        return _cosine(lowest, highest, step / peak)
    return _cosine(highest, lowest / 1e4, (step - peak) / (steps - 1 - peak))


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))
