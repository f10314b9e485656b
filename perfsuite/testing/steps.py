"""Steps under laws: what is checked, how it is made on a drawn sample, and all that there is to see after a step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis.strategies import SearchStrategy
from torch import Tensor
from torch.optim import Optimizer

from perfsuite.models.seeding import seeded
from perfsuite.protocols import Inputs, Recipe
from perfsuite.recipes.plain import PLAIN
from perfsuite.testing.contract import drawn
from perfsuite.testing.training_samples import TASKS, StepSample, Task
from perfsuite.training.plan import StepPlan
from perfsuite.training.run import GRADIENT, LOSS, UPDATED
from perfsuite.training.step import Step, loss_of, make_step

StepLaw = Callable[[Recipe, StepSample], None]
MakeStep = Callable[[StepPlan], Step]

EXACT = 1e-12  # relative, in float64
_SEED = 7


@dataclass(frozen=True)
class MadeBy:
    """Somebody's function that makes steps, as a recipe; ``micro_batches`` is what its plan asks for."""

    make: MakeStep
    micro_batches: int = 1
    name: str = "made-by"

    def apply(self, plan: StepPlan) -> StepPlan:
        return replace(plan, make_step=self.make, micro_batches=self.micro_batches)


class StepContract:
    """Laws over drawn models. Subclass it and set ``recipe``, or ``step``: a function that makes a Step of a StepPlan.

    ``samples`` draws models that it can train. ``without``: laws that do not apply to it, by name, each with the
    reason; they are skipped, and say so.
    """

    recipe: ClassVar[Recipe | None] = None
    step: ClassVar[MakeStep | None] = None
    micro_batches: ClassVar[int] = 1  # that ``step`` is asked to make
    max_examples: ClassVar[int] = 5  # for each law
    without: ClassVar[Mapping[str, str]] = {}
    laws: ClassVar[tuple[Callable[..., None], ...]] = ()
    tasks: ClassVar[tuple[Task, ...]] = TASKS  # that its samples are drawn from

    def test_laws_that_it_is_without_exist(self) -> None:
        known = {law.__name__ for law in self.laws}
        assert self.without.keys() <= known, f"no laws: {', '.join(sorted(self.without.keys() - known))}"

    @classmethod
    def subject(cls) -> Recipe:
        """What is checked."""
        if cls.step is not None:
            return MadeBy(cls.step, cls.micro_batches)
        assert cls.recipe is not None, "say what is checked: set recipe or step"
        return cls.recipe

    def check(self, law: StepLaw, samples: SearchStrategy[StepSample]) -> None:
        if law.__name__ in self.without:
            pytest.skip(self.without[law.__name__])
        check(law, self.subject(), samples, self.max_examples)


def check(law: StepLaw, recipe: Recipe, samples: SearchStrategy[StepSample], examples: int = 5) -> None:
    """An example that fails is reported as it was drawn."""

    @settings(drawn(examples), phases=[Phase.explicit, Phase.generate])
    @given(samples)
    def holds(sample: StepSample) -> None:
        law(recipe, sample)

    holds()


def made(recipe: Recipe, sample: StepSample, dtype: torch.dtype = torch.float32, change: Recipe = PLAIN) -> Step:
    """The step of a recipe on a copy of the sample's model; ``change`` is made before, unless all of it is its own."""
    return make_of(recipe, sample.plan(dtype), change.apply)


def make_of(recipe: Recipe, plan: StepPlan, change: Callable[[StepPlan], StepPlan]) -> Step:
    """The step of a recipe, for a plan that was changed before; a trainer's step is all its own, and stays as it is."""
    return make_step(recipe.apply(plan if getattr(recipe, "is_whole", False) else change(plan)))


def taken(step: Step, batch: Inputs, seed: int = _SEED) -> dict[str, Tensor]:
    """All that there is to see after one step, by name, and the state of random numbers in which it has left."""
    step.model.train()
    with seeded(seed), torch.enable_grad():
        found = {LOSS: step(batch).reshape(1), "random numbers": torch.get_rng_state()}
    named = [(name, parameter) for name, parameter in step.model.named_parameters() if parameter.grad is not None]
    found |= {GRADIENT.format(name): parameter.grad.clone() for name, parameter in named if parameter.grad is not None}
    return found | state(step)


def state(step: Step) -> dict[str, Tensor]:
    """Weights, buffers, what the optimizer keeps, and numbers of the schedule."""
    found = {UPDATED.format(name): value.detach().clone() for name, value in step.model.named_parameters()}
    found |= {f"buffer {name}": value.clone() for name, value in step.model.named_buffers()}
    for name, parameter in step.model.named_parameters():
        kept = step.optimizer.state.get(parameter, {})
        found |= {
            f"{key} of {name}": torch.as_tensor(value).clone() for key, value in kept.items() if value is not None
        }
    rates = [float(group["lr"]) for group in step.optimizer.param_groups]
    return found | {"learning rates": torch.tensor(rates), "schedule": torch.tensor(schedule_of(step))}


def reference(sample: StepSample) -> dict[str, Tensor]:
    """Loss and gradients of the whole batch at once, in float64, by nobody's step."""
    plan = sample.plan(torch.float64)
    plan.model.train()
    named = [(name, parameter) for name, parameter in plan.model.named_parameters() if parameter.requires_grad]
    with seeded(_SEED), torch.enable_grad():
        loss = loss_of(plan.model, plan.loss, plan.example)
        gradients = torch.autograd.grad(loss, [parameter for _, parameter in named])
    found = {GRADIENT.format(name): value for (name, _), value in zip(named, gradients, strict=True)}
    return found | {LOSS: loss.detach().reshape(1)}


def differing(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> list[str]:
    """The names under which both do not hold the same bits."""
    missing = one.keys() ^ other.keys()
    return sorted(missing | {name for name in one.keys() & other.keys() if not torch.equal(one[name], other[name])})


def assert_near(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], tolerance: float) -> None:
    """Each gradient, relative to the length of all of them: some are zero but for rounding."""
    lengths = [float(value.norm()) for name, value in expected.items() if name != LOSS]
    scale = math.hypot(*lengths)
    missing = sorted(expected.keys() - found.keys())
    assert not missing, f"the step has no {missing[0]}"
    for name, value in expected.items():
        apart, size = float((found[name].double() - value).norm()), abs(float(value)) if name == LOSS else scale
        assert apart <= tolerance * max(size, 1e-30), f"the {name} is off by {apart / max(size, 1e-30):.3g} of its size"


def schedule_of(step: Step) -> int:
    """How often the schedule has moved."""
    return 0 if step.schedule is None else int(step.schedule.last_epoch)


@contextmanager
def counted(optimizer: Optimizer) -> Iterator[list[int]]:
    """An entry for each step that the optimizer makes; a scaler may skip some."""
    found: list[int] = []
    handle = optimizer.register_step_post_hook(lambda *_: found.append(1))
    try:
        yield found
    finally:
        handle.remove()
