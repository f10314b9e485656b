"""Each law is seen to catch its fault, planted in a recipe that is right otherwise, in two real processes."""

from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace

import pytest
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from perfsuite.recipes.accumulate import Accumulate
from perfsuite.recipes.ddp import Ddp
from perfsuite.recipes.values import Composed
from perfsuite.testing import DATA_PARALLEL_LAWS, data_parallel
from perfsuite.training.batches import batch_size_of

pytestmark = pytest.mark.slow


class MeanOfMeans(data_parallel.MeanOverLabels):
    """Each share counts for as much as it has examples, however many labels these have."""

    def terms(self, batch):
        return batch_size_of(batch)


@dataclass(frozen=True)
class Planted(Ddp):
    ranks: int = 2
    fault: str = ""

    def join(self, plan, group):
        return getattr(self, self.fault)(super().join(plan, group), group)

    def is_mean_of_means(self, plan, group):
        return replace(plan, loss=MeanOfMeans())

    def sums(self, plan, group):
        plan.call.register_comm_hook(group, _sum)
        return plan

    def syncs_the_first(self, plan, group):
        begun = []

        @contextmanager
        def around(is_last):
            begun.append(is_last)
            with plan.call.no_sync() if is_last else nullcontext():
                yield

        return replace(plan, around_micro_batch=around)

    def syncs_each(self, plan, group):
        return replace(plan, around_micro_batch=lambda is_last: nullcontext())

    def drifts(self, plan, group):
        def change(parameters):
            for parameter in parameters:
                parameter.grad += 1e-9 * group.rank()

        return replace(plan, on_gradients=(*plan.on_gradients, change))

    def forgets(self, plan, group):
        """What no snapshot holds: how often it was called."""
        made = []

        def change(parameters):
            made.append(1)
            parameters[0].grad += 1e-6 * len(made)

        return replace(plan, on_gradients=(*plan.on_gradients, change))

    def saves_the_wrapper(self, plan, group):
        return replace(plan, model=plan.call)

    def looks_for_the_unused(self, plan, group):
        replica = DistributedDataParallel(plan.model, process_group=group, find_unused_parameters=True)
        return replace(plan, call=replica, around_micro_batch=lambda is_last: nullcontext())


def _sum(group, bucket):
    work = dist.all_reduce(bucket.buffer(), group=group, async_op=True).get_future()
    return work.then(lambda future: future.value()[0])


FAULTS = {
    "is_mean_of_means": data_parallel.gradients_are_those_of_the_joint_batch,
    "sums": data_parallel.gradients_are_those_of_the_joint_batch,
    "syncs_the_first": data_parallel.gradients_are_those_of_the_joint_batch,
    "drifts": data_parallel.weights_stay_equal_on_all_ranks,
    "forgets": data_parallel.repeats_bit_for_bit_after_a_restore,
    "syncs_each": data_parallel.sends_each_gradient_once,
    "saves_the_wrapper": data_parallel.state_loads_into_the_plain_model,
    "looks_for_the_unused": data_parallel.names_a_parameter_that_is_not_used,
}


def test_every_law_has_its_planted_fault():
    assert set(FAULTS.values()) == set(DATA_PARALLEL_LAWS)


@pytest.mark.parametrize("fault", FAULTS)
def test_the_law_catches_it(fault):
    recipe = Composed((Accumulate(2), Planted(fault=fault)))
    with data_parallel.opened(recipe) as pair, pytest.raises((AssertionError, RuntimeError, pytest.fail.Exception)):
        FAULTS[fault](pair)
