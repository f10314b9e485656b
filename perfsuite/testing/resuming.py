"""The laws of resuming: a run that was stopped and went on is the run that was not stopped, bit for bit."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from perfsuite.models.seeding import seeded
from perfsuite.protocols import Recipe
from perfsuite.recipes.amp import Amp
from perfsuite.recipes.one_cycle import OneCycle
from perfsuite.recipes.values import Composed
from perfsuite.testing.steps import check, differing, state
from perfsuite.testing.training_samples import StepSample, step_samples
from perfsuite.training.step import Step, make_step

_STEPS = 5
_EXAMPLES = 2
_RECIPE = Composed((Amp("fp16"), OneCycle()))


class ResumeContract:
    """The law of everybody who keeps a run in a file: subclass it, and set both functions.

    ``keep`` takes a Step after some steps, and gives what is kept; ``bring_back`` takes a new Step, and that. The state
    is that of the model, the optimizer, the schedule, the scaler and random numbers: the run has dropout, one cycle,
    and a scale that changes. ``recipe``: how its steps are made.
    """

    keep: ClassVar[Callable[[Step], Any]]
    bring_back: ClassVar[Callable[[Step, Any], None]]
    recipe: ClassVar[Recipe] = _RECIPE

    @pytest.mark.parametrize("stop", range(1, _STEPS), ids=lambda stop: f"after-{stop}")
    def test_goes_on_as_if_it_had_not_stopped(self, stop: int) -> None:
        def holds(recipe: Recipe, sample: StepSample) -> None:
            expected = list(_run(_started(recipe, sample), sample, _STEPS))
            stopped = _started(recipe, sample)
            with seeded(0):
                list(_go_on(stopped, sample, stop))
                kept = type(self).keep(stopped)
            resumed = _started(recipe, sample)
            _spoil(resumed)
            with seeded(1):
                type(self).bring_back(resumed, kept)
                found = list(_go_on(resumed, sample, _STEPS - stop))
            for number, (one, other) in enumerate(zip(found, expected[stop:], strict=True), start=stop + 1):
                assert not differing(one, other), (
                    f"stopped after {stop}, step {number} is otherwise: {differing(one, other)}"
                )

        check(holds, self.recipe, step_samples(("classes",), dropout=0.3), _EXAMPLES)


def _started(recipe: Recipe, sample: StepSample) -> Step:
    """Its scale grows every other step, so that a fresh scaler is another one."""
    step = make_step(recipe.apply(replace(sample.plan(torch.float32), steps=_STEPS)))
    if step.scaler is not None:
        step.scaler.load_state_dict({**step.scaler.state_dict(), "growth_interval": 2})
    return step


def _run(step: Step, sample: StepSample, steps: int) -> Iterator[dict[str, Tensor]]:
    with seeded(0):
        yield from _go_on(step, sample, steps)


def _go_on(step: Step, sample: StepSample, steps: int) -> Iterator[dict[str, Tensor]]:
    """What is seen after each step: the scale among it."""
    step.model.train()
    for _ in itertools.repeat(None, steps):
        with torch.enable_grad():
            found = {"loss": step(sample.batch_of(torch.float32)).reshape(1)} | state(step)
        scale = 1.0 if step.scaler is None else step.scaler.get_scale()
        yield found | {"scale": torch.tensor(scale), "random numbers": torch.get_rng_state()}


def _spoil(step: Step) -> None:
    """A new process begins elsewhere."""
    with torch.no_grad():
        for parameter in step.model.parameters():
            parameter.add_(1)
