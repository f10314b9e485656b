"""Learning from a teacher: the model as its spec builds it, whatever a technique has made of the student."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from perfsuite.distillation.data import Batch
from perfsuite.distillation.loss import DistillationLoss
from perfsuite.distillation.step import mask_for
from perfsuite.distillation.teacher import ask
from perfsuite.errors import UsageError
from perfsuite.models.devices import device_of
from perfsuite.models.ready import ready
from perfsuite.protocols import Inputs
from perfsuite.techniques.common import main_output
from perfsuite.techniques.naming import Grammar, Named, Number
from perfsuite.training.losses import labels_of
from perfsuite.training.plan import StepPlan


@dataclass(frozen=True)
class Distill(Named):
    """``distill``, or ``distill-0.9``: how much the teacher's answers count (``perfsuite.DistillationLoss``)."""

    alpha: float = 0.5

    grammar = Grammar("distill", Number("alpha", example="0.5"), noun="recipe")

    def __post_init__(self) -> None:
        if not 0 < self.alpha <= 1:
            raise UsageError(f"alpha {self.alpha:g} is not in (0, 1]", "write distill-0.5")

    def apply(self, plan: StepPlan) -> StepPlan:
        built = plan.spec.build(plan.seed)
        teacher = ready(plan.spec, built.module, device_of(plan.model)).requires_grad_(False)
        loss = FromTeacher(teacher, DistillationLoss(self.alpha))
        return replace(plan, loss=loss, beside=(*plan.beside, teacher))


@dataclass(frozen=True)
class FromTeacher:
    """A loss that asks the teacher, in eval mode and without gradients, what it says to the same batch."""

    teacher: nn.Module
    loss: DistillationLoss

    def __call__(self, output: Any, batch: Inputs) -> Tensor:
        wanted = ask(self.teacher)(Batch(batch))
        return self.loss(main_output(output), wanted, labels_of(batch), mask_for(batch, wanted))

    def terms(self, batch: Inputs) -> int:
        labels = labels_of(batch)
        return self.loss.terms(labels, mask_for(batch, labels.unsqueeze(-1)))
