"""The laws of a training step: it is repeatable, taken back bit for bit, made once, and on the schedule.

A law is a function of a recipe and a drawn sample. Gradients are compared, not losses: optimizers hide what is wrong
with them, and loss curves hide it longer.
"""

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
from perfsuite.recipes.one_cycle import OneCycle
from perfsuite.recipes.plain import PLAIN
from perfsuite.testing.contract import drawn, each
from perfsuite.testing.training_samples import TASKS, StepSample, Task, step_samples
from perfsuite.training.plan import StepPlan
from perfsuite.training.run import GRADIENT, LOSS, UPDATED, Training
from perfsuite.training.step import Step, loss_of, make_step

StepLaw = Callable[[Recipe, StepSample], None]
MakeStep = Callable[[StepPlan], Step]

EXACT = 1e-12  # relative, in float64
_SEED = 7
_CYCLE = 8  # steps


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
