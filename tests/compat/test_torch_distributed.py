"""What perfsuite uses of torch.distributed without torch promising it. A failure here says what has changed."""

from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from torch import nn

from perfsuite._compat import torch_distributed as compat


@pytest.fixture
def group(tmp_path):
    made = compat.own_group("gloo", tmp_path / "store", 0, 1, f"of-{tmp_path.name}", timedelta(seconds=20))
    yield made
    if made in dist.distributed_c10d._world.pg_map:
        dist.destroy_process_group(made)


def sharded(group):
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import fully_shard

    model = nn.Linear(4, 4)
    with compat.as_default(group):
        fully_shard(model, mesh=DeviceMesh.from_group(group, "cpu", mesh_dim_names=(group.group_name,)))
    return model


def test_a_group_of_ones_own_leaves_the_default_one_alone(group):
    assert not dist.is_initialized(), "_new_process_group_helper has made a default group"
    with compat.as_default(group):
        assert dist.get_rank() == 0, "_world.default_pg is no longer the default group"
    assert not dist.is_initialized(), "_world.default_pg stays what it was set to"


def test_a_group_that_was_left_is_known_no_more(group):
    model = sharded(group)
    mesh = model.weight.device_mesh
    assert mesh._pg_registry, "DeviceMesh._pg_registry no longer holds groups"
    compat.leave_group(group, model)
    assert group not in dist.distributed_c10d._world.pg_map, "destroy_process_group leaves it"
    assert not mesh._pg_registry, "it would hold the group, and its port, open"


def test_shards_are_told_from_tensors(group):
    model = sharded(group)
    assert compat.are_shards([torch.Tensor, type(model.weight)]) or compat.are_shards([type(model.weight.data)])
    assert not compat.are_shards([torch.Tensor, nn.Parameter])
    assert compat.local(model.weight).shape == (4, 4), "DTensor._local_tensor is not what is in this process"
    plain = torch.ones(2)
    assert compat.local(plain) is plain


def test_meshes_of_one_shape_and_other_names_are_not_equal(group, tmp_path):
    """Else torch, which caches by them, computes with the group of another."""
    from torch.distributed.device_mesh import DeviceMesh

    with compat.as_default(group):
        one, other = (DeviceMesh.from_group(group, "cpu", mesh_dim_names=(name,)) for name in ("one", "other"))
    assert one != other
    assert hash(one) != hash(other)


def test_gradients_of_shards_are_summed_and_divided(group):
    model = sharded(group)
    compat.sum_in_groups(model)
    assert hasattr(model, "set_force_sum_reduction_for_comms"), "gloo may take a mean for a sum again: pytorch#162338"
