"""What perfsuite uses of torch.distributed without torch promising it: groups of its own, and what shards are.

All of it was seen on torch 2.13. tests/compat/test_torch_distributed.py has a test for each.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import Tensor, nn


def own_group(backend: str, file: Path, rank: int, ranks: int, name: str, timeout: timedelta) -> dist.ProcessGroup:
    """A group whose ranks meet through a file, beside the default one, which may be somebody else's, or none.

    ``init_process_group`` makes one for a process, and ``new_group`` asks for it: two steps that are compared could
    not stand side by side. The name is no other group's, and the same in all ranks. ``leave_group`` ends it.
    """
    torch_distributed: Any = dist  # which says of few names that they are its own
    c10d = torch_distributed.distributed_c10d
    store = torch_distributed.FileStore(str(file), ranks)
    store.set_timeout(timeout)
    made = c10d._new_process_group_helper(ranks, rank, [], dist.Backend(backend), store, name, timeout=timeout)
    group: dist.ProcessGroup = made[0]
    c10d._world.pg_group_ranks[group] = {number: number for number in range(ranks)}
    return group


def leave_group(group: dist.ProcessGroup, module: nn.Module) -> None:
    """End a group, and what shards of a module still hold of it: torch caches their mesh, and with it open ports."""
    dist.destroy_process_group(group)
    for parameter in module.parameters():
        mesh: Any = getattr(parameter, "device_mesh", None)
        if mesh is not None:
            mesh._pg_registry.clear()


@contextmanager
def as_default(group: dist.ProcessGroup) -> Iterator[None]:
    """While open, it is the default group, which a DeviceMesh asks for the rank of this process."""
    world = dist.distributed_c10d._world
    before = world.default_pg
    world.default_pg = group
    try:
        yield
    finally:
        world.default_pg = before


def are_shards(types: Iterable[type]) -> bool:
    """Whether one of these is DTensor, whose operators are those of its shard, and between processes."""
    tensor = sys.modules.get("torch.distributed.tensor")
    return tensor is not None and any(issubclass(kind, tensor.DTensor) for kind in types)


def local(tensor: Tensor) -> Tensor:
    """What of it is in this process."""
    return tensor._local_tensor if are_shards([type(tensor)]) else tensor  # type: ignore[attr-defined]  # of DTensor


def sum_in_groups(module: nn.Module) -> None:
    """``set_force_sum_reduction_for_comms``: gradients of fully_shard are summed, then divided; once, gloo took a mean
    for a sum (pytorch#162338). What of torch is too old to have it, has no mean to mistake.
    """
    for part in module.modules():
        force = getattr(part, "set_force_sum_reduction_for_comms", None)
        if force is not None:
            force(True)
