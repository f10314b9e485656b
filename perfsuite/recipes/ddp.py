"""Replicas in several processes, whose gradients are averaged before each update (DistributedDataParallel).

Over gloo, on the CPU; over NCCL where the model is on a GPU and there is one for each rank, which was not yet run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from perfsuite.errors import UsageError
from perfsuite.recipes.ranks import shared
from perfsuite.techniques.naming import Count, Grammar, Named
from perfsuite.training.plan import StepPlan


@dataclass(frozen=True)
class Ddp(Named):
    """``ddp-N``: N processes on this machine, each on its share of the batch, in lock step.

    Under accumulation only the last micro-batch is followed by collectives. Raises UsageError for layers that look at
    the whole batch (BatchNorm), a loss that is no mean over its terms, and parameters that the loss does not depend on.
    """

    ranks: int

    grammar = Grammar("ddp", Count("ranks", example="2", is_needed=True), noun="recipe")

    def apply(self, plan: StepPlan) -> StepPlan:
        return shared(self, plan)

    def join(self, plan: StepPlan, group: dist.ProcessGroup) -> StepPlan:
        called: Any = plan.model if plan.call is None else plan.call  # what is compiled is a module, too
        replica = DistributedDataParallel(called, process_group=group)

        @contextmanager
        def around_micro_batch(is_last: bool) -> Iterator[None]:
            before = _seen(plan.model)
            with nullcontext() if is_last else replica.no_sync():
                yield
            if is_last:
                _check_all_used(plan.model, before)

        return replace(plan, call=replica, around_micro_batch=around_micro_batch)


def _seen(model: nn.Module) -> Mapping[str, int]:
    """How often the gradient of each parameter has been added to; those that have none yet are not there."""
    return {name: p.grad._version for name, p in model.named_parameters() if p.grad is not None}


def _check_all_used(model: nn.Module, before: Mapping[str, int]) -> None:
    """Else the gradients of its bucket are never averaged, and other ranks, which may have used it, wait for them."""
    now = _seen(model)
    unused = [n for n, p in model.named_parameters() if p.requires_grad and now.get(n) == before.get(n)]
    if unused:
        raise UsageError(
            f"the loss does not depend on {', '.join(map(repr, unused[:3]))}: under DistributedDataParallel other "
            "ranks would wait for these gradients",
            "freeze what is not used (requires_grad=False in the spec's build), or use it in each forward pass",
        )
