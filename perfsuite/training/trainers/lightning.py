"""A LightningModule and its Trainer: Lightning's own loop makes one window of micro-batches."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from perfsuite._compat.lightning import prepare_trainer, run_window
from perfsuite.errors import UsageError
from perfsuite.protocols import Inputs
from perfsuite.training.batches import split
from perfsuite.training.plan import StepPlan
from perfsuite.training.step import Step
from perfsuite.training.trainers.common import Seen, TrainerRecipe, as_loaded, check_trained


class FromLightning(TrainerRecipe):
    """``FromLightning("mine", make)``, where ``make(model)`` gives a LightningModule and a ``Trainer`` for it.

    The module holds the model, or is it. ``training_step`` gets batches as the spec's data have them, as many for a
    step as ``accumulate_grad_batches`` says, fewer where there are not so many examples: a last window.
    """

    needs = ("lightning",)

    def step(self, plan: StepPlan, made: Any) -> Step:
        module, trainer = made if isinstance(made, tuple) and len(made) == 2 else (None, made)
        if not hasattr(module, "training_step") or not hasattr(trainer, "fit_loop"):
            raise UsageError(
                f"what makes {self.name!r} gives a {type(made).__name__}", "give a LightningModule and its Trainer"
            )
        return LightningStep(plan, module, trainer, self.name)


class LightningStep:
    """One optimizer step of a Trainer."""

    schedule: LRScheduler | None
    scaler: GradScaler | None

    def __init__(self, plan: StepPlan, module: Any, trainer: Any, name: str) -> None:
        self.model = plan.model
        self._trainer = trainer
        prepare_trainer(trainer, module)
        if not module.automatic_optimization or len(trainer.optimizers) != 1:
            raise UsageError(
                f"the module of {name!r} optimizes by hand, or by {len(trainer.optimizers)} optimizers",
                "gate one that Lightning optimizes, by one optimizer",
            )
        self.optimizer: Optimizer = trainer.optimizers[0]
        check_trained(plan, self.optimizer, name)
        schedules = [config.scheduler for config in trainer.lr_scheduler_configs]
        self.schedule = schedules[0] if schedules else None
        self.scaler = getattr(trainer.precision_plugin, "scaler", None)
        self._seen = Seen(self.model, self.optimizer)
        self._listen(trainer.strategy)
        self._losses: list[Tensor] = []

    def __call__(self, batch: Inputs) -> Tensor:
        wanted = self._trainer.accumulate_grad_batches
        parts = [as_loaded(part) for part in split(batch, wanted)]
        self._losses = []
        with self._seen.step(len(parts)):
            run_window(self._trainer, parts, is_last=len(parts) < wanted)
        return sum(self._losses[1:], self._losses[0])

    def _listen(self, strategy: Any) -> None:
        """A forward pass is ``training_step``; what gradients are computed of is the loss."""
        make, backward = strategy.training_step, self._seen.backward(strategy.backward)

        def training_step(*args: Any, **kwargs: Any) -> Any:
            self._seen.forward()
            return make(*args, **kwargs)

        def noted(loss: Tensor, *args: Any, **kwargs: Any) -> Any:
            self._losses.append(loss.detach())
            return backward(loss, *args, **kwargs)

        strategy.training_step, strategy.backward = training_step, noted
