"""Nothing changes: one forward pass, one backward pass, one update. What all other recipes are compared with."""

from __future__ import annotations

from dataclasses import dataclass

from perfsuite.case import PLAIN_RECIPE
from perfsuite.techniques.naming import Grammar, Named
from perfsuite.training.plan import StepPlan


@dataclass(frozen=True)
class Plain(Named):
    """``plain``."""

    grammar = Grammar(PLAIN_RECIPE, noun="recipe")

    def apply(self, plan: StepPlan) -> StepPlan:
        return plan


PLAIN = Plain()
