"""Recipes for several processes: what is refused before one starts, and what becomes of real ones."""

import gc
import os
import signal
import time
from contextlib import closing

import psutil
import pytest
import torch

from perfsuite.errors import EngineError, UsageError
from perfsuite.measure.step_memory import observe
from perfsuite.measure.steps import Steps
from perfsuite.recipes.values import parse_recipe
from tests.recipes.parallel_models import Chooses, Net, Normalized, Refuses, training

LIMIT_S = 60


def processes():
    return {child.pid for child in psutil.Process().children(recursive=True)}


def ports():
    return {each.laddr.port for each in psutil.Process().net_connections("tcp") if each.status == "LISTEN"}


def are_gone(pids):
    deadline = time.monotonic() + LIMIT_S
    while any(map(psutil.pid_exists, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(map(psutil.pid_exists, pids))


@pytest.fixture(autouse=True)
def _nothing_is_left():
    before, open_before = processes(), ports()
    yield
    gc.collect()
    assert are_gone(processes() - before)
    assert ports() <= open_before


@pytest.mark.parametrize("family", ["ddp", "fsdp"])
class TestRefused:
    def test_one_rank(self, family):
        with pytest.raises(UsageError, match=f"'{family}-1' has no rank beside the first"):
            training(Net, f"{family}-1")

    def test_without_a_number(self, family):
        with pytest.raises((UsageError, TypeError)):
            parse_recipe(family)

    def test_batch_norm(self, family):
        with pytest.raises(UsageError, match=f"'norm' normalizes over the batch, .* under {family}-2"):
            training(Normalized, f"{family}-2")

    def test_a_batch_without_a_share_for_each(self, family):
        with pytest.raises(UsageError, match="a batch of 2 has no share for each of 3 ranks"):
            training(Net, f"{family}-3", size=2)

    def test_a_loss_that_is_no_mean(self, family):
        with pytest.raises(UsageError, match="the loss is no mean over its terms"):
            training(Net, f"{family}-2", loss=lambda output, batch: output.square().sum())

    def test_what_other_processes_cannot_import(self, family):
        class Local(Net):
            pass

        with pytest.raises(UsageError, match=r"cannot be sent to other processes: .*Local"):
            training(Local, f"{family}-2")

    def test_beside_another_recipe_that_makes_the_step(self, family):
        other = {"ddp": "fsdp", "fsdp": "ddp"}[family]
        with pytest.raises(UsageError, match="the step is made by another recipe"):
            training(Net, f"{other}-2+{family}-2")


@pytest.mark.slow
def test_a_rank_that_is_killed_ends_all_and_is_named():
    made = training(Net, "ddp-3", size=6)
    pids = [member.process.pid for member in made.step._team.members]
    made.run(2)
    os.kill(pids[1], signal.SIGKILL)
    with pytest.raises(EngineError, match="rank 2 of 3 failed: its process was killed by signal 9"):
        made.run(1000)
    assert are_gone(pids)
    made.close()


@pytest.mark.slow
def test_a_rank_that_is_killed_while_this_one_waits_for_it_is_named():
    made = training(Net, "ddp-2")
    (member,) = made.step._team.members
    member.process.send_signal(signal.SIGSTOP)  # it answers nothing, so that this rank waits for its gradients
    os.system(f"(sleep 1; kill -KILL {member.process.pid}) &")
    with pytest.raises(EngineError, match="rank 1 of 2 failed: its process was killed by signal 9"):
        made.once()
    made.close()


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["ddp-2", "accumulate-2+ddp-2"])
def test_a_parameter_that_one_rank_does_not_use_is_named_in_time(recipe):
    began = time.monotonic()
    with pytest.raises(UsageError, match=r"rank 1 of 2 .* does not depend on 'extra\.weight', 'extra\.bias'"):
        training(Chooses, recipe)
    assert time.monotonic() - began < LIMIT_S, "it waited for a gradient that never comes"


@pytest.mark.slow
def test_an_error_of_the_model_in_another_rank_is_told_as_it_is():
    with pytest.raises(EngineError, match="rank 1 of 2 failed: ArithmeticError: positive examples") as caught:
        training(Refuses, "ddp-2+accumulate-2")
    assert "in forward" in caught.value.__notes__[0]


@pytest.mark.slow
def test_processes_end_with_the_training_that_nobody_holds_any_more():
    made = training(Net, "fsdp-2")
    pids = [member.process.pid for member in made.step._team.members]
    del made
    gc.collect()
    assert are_gone(pids)


@pytest.mark.slow
def test_two_trainings_take_turns_in_one_process():
    """As a candidate and its base do, each in groups of its own."""
    with closing(training(Net, "fsdp-2")) as one, closing(training(Net, "fsdp-2")) as other, \
            closing(training(Net, "ddp-2")) as third:  # fmt: skip
        outcomes = []
        for _ in range(2):
            for each in (one, other, third):
                each.restore()
                outcomes.append(torch.stack(each.run(2)))
                assert len({*each.step.checksums()}) == 1
    assert all(torch.equal(outcome, outcomes[0]) for outcome in outcomes)
    assert not torch.distributed.is_initialized()


@pytest.mark.slow
@pytest.mark.parametrize("ranks", ["ddp-2", "fsdp-2"])
def test_it_composes_with_the_other_recipes(ranks):
    """As without ranks, to the rounding of what autocast computes in."""
    others = "accumulate-2+checkpoint+bf16-amp+clip-0.5"
    alone = Steps(made := training(Net, others), made.restore)
    with closing(training(Net, f"{others}+{ranks}")) as together:
        steps = Steps(together, together.restore)
        assert steps.distance(alone, "gradient") < 2**17  # eps of bf16 in those of float32, twice
        assert steps.loss == pytest.approx(alone.loss, rel=1e-2)
        assert steps.norm("gradient") == pytest.approx(0.5, rel=1e-3)
        assert steps.taken == 1


@pytest.mark.slow
def test_collectives_are_buckets_and_bytes_those_of_the_gradients():
    gradients = sum(parameter.numel() * 4 for parameter in Net().parameters())
    for recipe in ("ddp-2", "ddp-2+accumulate-2", "ddp-2+accumulate-4"):
        with closing(training(Net, recipe)) as made:
            memory = observe(made)
            assert memory.collectives == {"c10d::allreduce_": 1}
            assert memory.sent == {"c10d::allreduce_": gradients}
    with closing(training(Net, "fsdp-2+accumulate-2")) as made:
        memory = observe(made)
        assert memory.collectives["c10d::_reduce_scatter_base_"] == 3  # two blocks, and the rest
        assert memory.at_peak["parameter"] < gradients


@pytest.mark.slow
def test_dropout_drops_alike_in_each_repetition_and_otherwise_in_each_rank():
    make = DropsHalf
    with closing(training(make, "ddp-2")) as made:
        runs = []
        for _ in range(2):
            made.restore()
            runs.append(torch.stack(made.run(3)))
        assert torch.equal(*runs)
        assert not made.plan.draws_alike


class DropsHalf(Net):
    def __init__(self):
        super().__init__(dropout=0.5)


@pytest.mark.slow
def test_ranks_that_would_make_other_numbers_of_micro_batches_are_refused():
    with pytest.raises(UsageError, match="2 ranks would have 3 and 4 micro-batches each") as caught:
        training(Net, "ddp-2+accumulate-4", size=9)
    assert "a batch size that 8 divides" in caught.value.remedy


@pytest.mark.slow  # a real process
def test_a_run_in_several_processes_is_not_said_to_be_resumed():
    with (
        closing(training(Net, "ddp-2")) as made,
        pytest.raises(UsageError, match="in several processes cannot be resumed"),
    ):
        _ = Steps(made, made.restore).resume_distance
