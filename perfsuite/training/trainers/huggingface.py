"""A ``transformers.Trainer``: its own loop makes one window of micro-batches, and all that its user has overridden."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from perfsuite._compat.transformers import prepare_trainer, run_window
from perfsuite.errors import UsageError
from perfsuite.optional import optional
from perfsuite.protocols import Inputs
from perfsuite.training.batches import split
from perfsuite.training.plan import StepPlan
from perfsuite.training.step import Step
from perfsuite.training.trainers.common import Seen, TrainerRecipe, as_keywords, check_trained


class FromTrainer(TrainerRecipe):
    """``FromTrainer("mine", make)``, where ``make(model)`` gives a ``transformers.Trainer``.

    Its batches are dicts, split into as many micro-batches as ``gradient_accumulation_steps`` says, fewer where there
    are not so many examples: a last window. Nothing is logged, evaluated or saved.
    """

    needs = ("transformers", "accelerate")

    def step(self, plan: StepPlan, made: Any) -> Step:
        return HuggingFaceStep(plan, made, self.name)


class HuggingFaceStep:
    """One optimizer step of a Trainer."""

    schedule: LRScheduler | None
    scaler: GradScaler | None

    def __init__(self, plan: StepPlan, trainer: Any, name: str) -> None:
        if not isinstance(trainer, optional("transformers", "a Trainer").Trainer):
            raise UsageError(f"what makes {name!r} gives a {type(trainer).__name__}", "give a transformers.Trainer")
        self.model = plan.model
        self._trainer = trainer
        prepare_trainer(trainer, plan.steps)
        self.optimizer: Optimizer = getattr(trainer.optimizer, "optimizer", trainer.optimizer)
        check_trained(plan, self.optimizer, name)
        self.schedule, self.scaler = trainer.lr_scheduler, trainer.accelerator.scaler
        self._seen = Seen(self.model, self.optimizer)
        trainer.accelerator.backward = self._seen.backward(trainer.accelerator.backward)
        self._make = trainer.training_step
        trainer.training_step = self._training_step

    def __call__(self, batch: Inputs) -> Tensor:
        wanted = self._trainer.args.gradient_accumulation_steps
        rows = [as_keywords(self.model, part) for part in split(batch, wanted)]
        with self._seen.step(len(rows)):
            return run_window(self._trainer, rows)

    def _training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        self._seen.forward()
        loss: Tensor = self._make(*args, **kwargs)
        return loss
