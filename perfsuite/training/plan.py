"""How one optimizer step is made, as a frozen value: recipes change fields of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from perfsuite._compat.torch import has_values
from perfsuite.protocols import Inputs, ModelSpec, Recipe
from perfsuite.training.losses import Loss, loss_for

if TYPE_CHECKING:
    from perfsuite.training.step import Step

LEARNING_RATE = 1e-3
STEPS = 20  # of a run: what a schedule is made for, and a trajectory is compared over


def adamw(parameters: Sequence[nn.Parameter]) -> Optimizer:
    """The optimizer of a spec that brings none."""
    return AdamW(parameters, lr=LEARNING_RATE)


def _always(is_last: bool) -> AbstractContextManager[object]:
    return nullcontext()


@dataclass(frozen=True)
class StepPlan:
    """One step: micro-batches forward and backward, then what changes gradients, the optimizer, the schedule.

    ``model`` owns the parameters; ``call`` is what is called in its stead, if anything is (compiled, or one that
    gathers gradients of other processes). ``around_forward`` is entered around each forward pass with its loss,
    ``around_micro_batch`` around that with its backward pass, and told whether it is the last. ``on_gradients`` get the
    parameters once their gradients are whole and unscaled, in order. ``make_step`` is whose code makes the step.
    ``beside`` are modules that are alive, too, such as a teacher. ``draws_alike``: random numbers are drawn as in a
    plain step, so that dropout drops the same. ``spec``, ``seed`` and ``example`` (a batch) are what the plan was made
    from, and ``origin`` the plain plan and the recipe, from which other processes make theirs.
    """

    model: nn.Module
    loss: Loss
    spec: ModelSpec
    example: Inputs
    seed: int = 0
    steps: int = STEPS
    micro_batches: int = 1
    call: Callable[..., Any] | None = None
    make_optimizer: Callable[[Sequence[nn.Parameter]], Optimizer] = adamw
    make_scaler: Callable[[], GradScaler] | None = None
    make_schedule: Callable[[Optimizer, int], LRScheduler] | None = None
    around_forward: Callable[[], AbstractContextManager[object]] = nullcontext
    around_micro_batch: Callable[[bool], AbstractContextManager[object]] = _always
    on_gradients: tuple[Callable[[Sequence[nn.Parameter]], object], ...] = ()
    beside: tuple[nn.Module, ...] = ()
    draws_alike: bool = True
    make_step: Callable[[StepPlan], Step] | None = None
    origin: tuple[StepPlan, Recipe] | None = None

    @staticmethod
    def plain(model: nn.Module, spec: ModelSpec, example: Inputs, seed: int) -> StepPlan:
        """As the spec says, without any recipe."""
        loss, optimizer = loss_for(model, spec.loss), spec.optimizer or adamw
        return StepPlan(model, loss, spec, example, seed, make_optimizer=optimizer)

    @property
    def has_values(self) -> bool:
        """Whether a step can be looked at: of shapes alone, neither losses nor gradients can."""
        return all(map(has_values, self.model.parameters()))

    def by(self, recipe: Recipe) -> StepPlan:
        """What a recipe makes of it, a plain plan."""
        changed: StepPlan = recipe.apply(replace(self, origin=(self, recipe)))
        return changed
