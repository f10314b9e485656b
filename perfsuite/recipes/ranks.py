"""What recipes for several processes have in common."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
import torch.distributed as dist

from perfsuite.errors import UnavailableError, UsageError
from perfsuite.models.devices import device_of
from perfsuite.recipes.parts import check_layers, check_mean
from perfsuite.training.batches import shares
from perfsuite.training.parallel.replica import Parallel
from perfsuite.training.parallel.step import ParallelStep
from perfsuite.training.plan import StepPlan


def shared(recipe: Parallel, plan: StepPlan) -> StepPlan:
    """The plan, made by several processes. Raises UsageError, UnavailableError where that is not possible."""
    name, ranks = recipe.name, recipe.ranks
    if ranks < 2:
        raise UsageError(f"{name!r} has no rank beside the first", f"write {name.partition('-')[0]}-2")
    if plan.make_step is not None:
        raise UsageError(f"the step is made by another recipe, which {name!r} does not know", "gate one of the two")
    if not plan.has_values:
        raise UsageError(f"{name!r} starts processes, which need a model that has values", "predict 'plain' instead")
    _check_devices(plan, ranks)
    check_layers(plan.model, name)
    check_mean(plan, shares(plan.example, ranks))
    return replace(plan, make_step=partial(ParallelStep, recipe), draws_alike=False)


def _check_devices(plan: StepPlan, ranks: int) -> None:
    if not dist.is_available():
        raise UnavailableError("this build of torch has no torch.distributed", "install one that has")
    device = device_of(plan.model)
    if device.type == "cpu":
        return
    there = torch.cuda.device_count()
    if device.type != "cuda" or there < ranks:
        raise UnavailableError(
            f"{ranks} ranks need {ranks} GPUs, and this machine has {there}", "gate it on the CPU, or with fewer ranks"
        )
