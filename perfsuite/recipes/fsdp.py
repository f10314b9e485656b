"""Parameters, gradients and the optimizer's state in shards, one in each process (FSDP2: fully_shard).

Over gloo, on the CPU; over NCCL where the model is on a GPU and there is one for each rank, which was not yet run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch.distributed as dist
from torch import nn

from perfsuite._compat.torch_distributed import as_default, sum_in_groups
from perfsuite.errors import UsageError
from perfsuite.recipes.checkpoint import blocks
from perfsuite.recipes.ranks import shared
from perfsuite.techniques.naming import Count, Grammar, Named
from perfsuite.training.plan import StepPlan


@dataclass(frozen=True)
class Fsdp(Named):
    """``fsdp-N``: N processes on this machine, each with its share of the batch and of each block that repeats.

    Under accumulation gradients are reduced after the last micro-batch only; parameters are gathered for each. Raises
    UsageError for layers that look at the whole batch (BatchNorm), and a loss that is no mean over its terms.
    """

    ranks: int

    grammar = Grammar("fsdp", Count("ranks", example="2", is_needed=True), noun="recipe")

    def apply(self, plan: StepPlan) -> StepPlan:
        return shared(self, plan)

    def join(self, plan: StepPlan, group: dist.ProcessGroup) -> StepPlan:
        if plan.call is not None:
            raise UsageError(f"{self.name!r} shards the model, not what was compiled of it", "leave out 'compile'")
        model: Any = _sharded(plan.model, group)

        @contextmanager
        def around_micro_batch(is_last: bool) -> Iterator[None]:
            model.set_requires_gradient_sync(is_last)
            yield

        return replace(plan, around_micro_batch=around_micro_batch)


def _sharded(model: nn.Module, group: dist.ProcessGroup) -> nn.Module:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import fully_shard

    device = next(model.parameters()).device
    with as_default(group):
        # Named after its group: torch caches by mesh, and takes two for one that have the same shape and names.
        mesh = DeviceMesh.from_group(group, device.type, mesh_dim_names=(group.group_name,))
        for block in blocks(model):
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)
    sum_in_groups(model)
    return model
