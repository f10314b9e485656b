"""Gradients of several micro-batches, added up before one update: as those of the whole batch, in less memory."""

from __future__ import annotations

from dataclasses import dataclass, replace

from perfsuite.errors import UsageError
from perfsuite.recipes.parts import check_layers, check_mean
from perfsuite.techniques.naming import Count, Grammar, Named
from perfsuite.training.batches import split
from perfsuite.training.plan import StepPlan


@dataclass(frozen=True)
class Accumulate(Named):
    """``accumulate-K``: the batch in K micro-batches, each weighed by the terms that its mean loss is over.

    Raises UsageError for layers that look at the whole batch (BatchNorm), and for a loss that is no mean over its
    terms.
    """

    micro_batches: int

    grammar = Grammar("accumulate", Count("micro_batches", example="4", is_needed=True), noun="recipe")

    def __post_init__(self) -> None:
        if self.micro_batches < 2:
            raise UsageError(f"a batch in {self.micro_batches} parts is none that is accumulated", "write accumulate-4")

    def apply(self, plan: StepPlan) -> StepPlan:
        check_layers(plan.model, self.name)
        check_mean(plan, list(split(plan.example, self.micro_batches)))
        return replace(plan, micro_batches=self.micro_batches, draws_alike=False)
