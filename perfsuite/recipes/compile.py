"""The forward pass, and with it the backward pass, compiled. What is counted is counted in its eager run."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from perfsuite.techniques.naming import Grammar, Named
from perfsuite.training.plan import StepPlan


@dataclass(frozen=True)
class Compile(Named):
    """``compile``: torch.compile of the model, with its defaults."""

    grammar = Grammar("compile", noun="recipe")

    def apply(self, plan: StepPlan) -> StepPlan:
        compiled = torch.compile(plan.model if plan.call is None else plan.call)
        return replace(plan, call=compiled, draws_alike=False)  # inductor draws in its own way
