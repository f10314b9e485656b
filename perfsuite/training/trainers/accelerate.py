"""A loop on Accelerate: the function that runs over a loader, given a loader of one window."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from perfsuite.errors import UsageError
from perfsuite.protocols import Inputs
from perfsuite.training.batches import split
from perfsuite.training.plan import StepPlan
from perfsuite.training.step import Step
from perfsuite.training.trainers.common import Seen, TrainerRecipe, as_loaded, check_trained


@dataclass(frozen=True)
class Loop:
    """What somebody trains with: ``epoch(loader)`` is the loop over batches, with all that a step takes.

    ``optimizer`` and ``schedule`` are those that the accelerator has prepared.
    """

    accelerator: Any
    optimizer: Any
    epoch: Callable[[Iterable[Any]], object]
    schedule: Any = None


class FromAccelerate(TrainerRecipe):
    """``FromAccelerate("mine", make)``, where ``make(model)`` gives a ``Loop``.

    Its loader gives as many micro-batches as the accelerator's ``gradient_accumulation_steps`` says, fewer where there
    are not so many examples: a last window. The loss is what gradients were computed of.
    """

    needs = ("accelerate",)

    def step(self, plan: StepPlan, made: Any) -> Step:
        if not isinstance(made, Loop):
            raise UsageError(
                f"what makes {self.name!r} gives a {type(made).__name__}", f"give a {Loop.__module__}.Loop"
            )
        return AccelerateStep(plan, made, self.name)


class AccelerateStep:
    """One optimizer step of a loop."""

    schedule: LRScheduler | None
    scaler: GradScaler | None

    def __init__(self, plan: StepPlan, loop: Loop, name: str) -> None:
        self.model = plan.model
        self._loop = loop
        self.optimizer: Optimizer = getattr(loop.optimizer, "optimizer", loop.optimizer)
        check_trained(plan, self.optimizer, name)
        self.schedule = getattr(loop.schedule, "scheduler", loop.schedule)
        self.scaler = loop.accelerator.scaler
        self._seen = Seen(self.model, self.optimizer)
        self._backward = self._seen.backward(loop.accelerator.backward)
        loop.accelerator.backward = self._note_loss
        self._losses: list[Tensor] = []

    def __call__(self, batch: Inputs) -> Tensor:
        accelerator = self._loop.accelerator
        parts = [as_loaded(part) for part in split(batch, accelerator.gradient_accumulation_steps)]
        drawn = torch.Generator()  # a loader draws a seed, and would change what dropout drops
        loader = accelerator.prepare_data_loader(DataLoader(parts, batch_size=None, generator=drawn))  # type: ignore[arg-type]  # a list is a dataset
        self._losses = []
        hook = self.model.register_forward_pre_hook(lambda *_: self._seen.forward())
        try:
            with self._seen.step(len(parts)):
                self._loop.epoch(loader)
        finally:
            hook.remove()
        return sum(self._losses[1:], self._losses[0])

    def _note_loss(self, loss: Tensor, **kwargs: Any) -> None:
        self._losses.append(loss.detach() / self._loop.accelerator.gradient_accumulation_steps)
        self._backward(loss, **kwargs)
