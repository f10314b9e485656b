"""Gradients that are not longer than a number: after they are whole and unscaled, before the optimizer sees them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from torch.nn.utils import clip_grad_norm_

from perfsuite.techniques.naming import Grammar, Named, Number
from perfsuite.training.plan import StepPlan


@dataclass(frozen=True)
class Clip(Named):
    """``clip-V``: the norm of all gradients together is at most V (Pascanu et al. 2013); ``clip`` is ``clip-1``."""

    norm: float = 1.0

    grammar = Grammar("clip", Number("norm", example="1.0"), noun="recipe")

    def apply(self, plan: StepPlan) -> StepPlan:
        return replace(plan, on_gradients=(*plan.on_gradients, partial(clip_grad_norm_, max_norm=self.norm)))
