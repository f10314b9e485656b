"""A learning rate that rises to that of the optimizer and falls far below it, once, over the run (Smith 2018)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from perfsuite.techniques.naming import Grammar, Named
from perfsuite.training.plan import StepPlan


@dataclass(frozen=True)
class OneCycle(Named):
    """``one-cycle``: over all steps of the plan, stepped once for each that the optimizer makes."""

    grammar = Grammar("one-cycle", noun="recipe")

    def apply(self, plan: StepPlan) -> StepPlan:
        return replace(plan, make_schedule=_one_cycle)


def _one_cycle(optimizer: Optimizer, steps: int) -> LRScheduler:
    return OneCycleLR(optimizer, [group["lr"] for group in optimizer.param_groups], total_steps=steps)
