"""Contracts are judged by faults: each that trainers have had is caught by the law that is named beside it.

``DistillationContract``, ``QatContract`` and ``DataParallelContract`` have theirs beside their own laws.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import hypothesis.strategies as st
import pytest
import torch

from perfsuite.measure.steps import Steps
from perfsuite.recipes.amp import Amp
from perfsuite.recipes.checkpoint import Checkpoint
from perfsuite.recipes.plain import PLAIN
from perfsuite.recipes.values import Composed
from perfsuite.testing import (
    AccumulationContract,
    AmpContract,
    CheckpointContract,
    ResumeContract,
    TrainStepContract,
)
from perfsuite.testing import accumulation as accumulation_laws
from perfsuite.testing import amp as amp_laws
from perfsuite.testing import checkpointing as checkpoint_laws
from perfsuite.testing import training as step_laws
from perfsuite.testing.steps import MadeBy, check
from perfsuite.testing.training_samples import step_samples
from perfsuite.training.run import Training
from perfsuite.training.step import PlainStep
from tests.testing import faulty_steps as faulty


@dataclass(frozen=True)
class Fault:
    name: str
    contract: type
    under_test: Any  # a function that makes a step, or a recipe
    caught_by: Callable[..., None]


def scaled(step):
    """In mixed precision with a scaler."""
    return Composed((Amp("fp16"), MadeBy(step)))


FAULTS = (
    Fault("mean of means (transformers#34191)", AccumulationContract, faulty.MeanOfMeans,
          accumulation_laws.adds_up_to_the_whole_batch),
    Fault("last window scaled as a full one (Lightning#19987)", AccumulationContract, faulty.FullWindow,
          accumulation_laws.scales_a_partial_window),
    Fault("denominator passed in (TRL#6452)", AccumulationContract, faulty.CountsPadding,
          accumulation_laws.adds_up_to_the_whole_batch),
    Fault("sum for mean (transformers#37766)", AccumulationContract, faulty.Sum,
          accumulation_laws.adds_up_in_float32),
    Fault("loss of the last micro-batch logged", AccumulationContract, faulty.LogsTheLast,
          accumulation_laws.logs_the_loss_of_the_whole_batch),
    Fault("schedule per micro-batch (accelerate#963)", AccumulationContract, faulty.SchedulePerMicroBatch,
          step_laws.steps_once),
    Fault("BatchNorm accumulated over parts", AccumulationContract, faulty.PlainStep,
          accumulation_laws.refuses_normalization_over_the_batch),
    Fault("all forward passes first", AccumulationContract, faulty.HoldsAll,
          accumulation_laws.saves_less_than_the_whole_batch),
    Fault("sum for average (pytorch#162338)", TrainStepContract, faulty.Twofold,
          step_laws.descends_along_the_gradient_of_the_loss),
    Fault("a number that is not taken back", TrainStepContract, faulty.WarmsUp, step_laws.is_taken_back_bit_for_bit),
    Fault("zero_grad forgotten", TrainStepContract, faulty.KeepsGradients,
          step_laws.forgets_the_gradients_of_before),
    Fault("schedule beside the steps", TrainStepContract, faulty.SchedulePerMicroBatch,
          step_laws.follows_the_schedule),
    Fault("BatchNorm updated twice", TrainStepContract, faulty.LooksFirst, step_laws.updates_buffers_once),
    Fault("teacher in train mode (TaCL#11)", TrainStepContract, faulty.WakesAll,
          step_laws.leaves_frozen_parts_as_they_are),
    Fault("drawn from an unseeded generator (speculators#1027)", TrainStepContract, faulty.Unseeded,
          step_laws.makes_the_same_step_twice),
    Fault("clipped before unscale (Lightning#9599)", AmpContract, scaled(faulty.ClipsScaled),
          amp_laws.clips_unscaled_gradients),
    Fault("never unscaled (pytorch/examples#1196)", AmpContract, scaled(faulty.NeverUnscaled),
          amp_laws.gives_what_no_scaling_gives),
    Fault("divided by the grown scale (DeepSpeed#8588)", AmpContract, scaled(faulty.GrownScale),
          amp_laws.does_not_depend_on_the_scale),
    Fault("skipped step moves the schedule (Lightning#21339)", AmpContract, scaled(faulty.ScheduleAnyway),
          amp_laws.every_attempt_is_a_step_or_skipped),
    Fault("infinite gradient stepped along", AmpContract, scaled(faulty.StepsOnInfinity),
          amp_laws.a_skipped_step_changes_nothing),
    Fault("weights in half precision", AmpContract, faulty.Half, amp_laws.keeps_what_it_keeps_in_float32),
    Fault("mixed in name alone", AmpContract, PLAIN, amp_laws.computes_in_half_precision),
    Fault("random numbers not kept (OLMo-core#828)", CheckpointContract,
          faulty.Checkpointed(faulty.without_random_numbers), checkpoint_laws.computes_the_same_bit_for_bit),
    Fault("RReLU computed again (pytorch#193671)", CheckpointContract,
          faulty.Checkpointed(faulty.with_statistics_twice), checkpoint_laws.computes_the_same_where_layers_draw),
    Fault("BatchNorm computed again", CheckpointContract,
          faulty.Checkpointed(faulty.with_statistics_twice), checkpoint_laws.moves_statistics_once),
    Fault("computed again outside of autocast", CheckpointContract,
          faulty.Checkpointed(faulty.without_autocast), checkpoint_laws.computes_the_same_under_autocast),
    Fault("two forward passes more", CheckpointContract, Composed((Checkpoint(), MadeBy(faulty.LooksFirst))),
          checkpoint_laws.computes_one_forward_pass_more_at_most),
    Fault("nothing checkpointed", CheckpointContract, faulty.Checkpointed(faulty.nothing),
          checkpoint_laws.computes_something_again),
    Fault("nothing saved", CheckpointContract, faulty.Checkpointed(faulty.nothing),
          checkpoint_laws.saves_less_for_the_backward_pass),
)  # fmt: skip


def of(fault):
    """The contract, as somebody would subclass it."""
    is_recipe = hasattr(fault.under_test, "apply")
    under_test = {"recipe": fault.under_test} if is_recipe else {"step": staticmethod(fault.under_test)}
    return type("TestFault", (fault.contract,), under_test)()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_caught(fault):
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        of(fault).test_law(fault.caught_by)


class Kept(ResumeContract):
    keep = staticmethod(lambda step: copy.deepcopy(faulty.state_of(step)))
    bring_back = staticmethod(faulty.bring_back)


class TestAllIsKept(Kept):
    """What is right keeps the law."""


@pytest.mark.parametrize("part", ["model", "optimizer", "schedule", "scaler", "random"])
def test_a_resume_without_a_part_is_caught(part):
    """the_well#77, darts#2463 and others."""
    keep = partial(faulty.state_of, without=(part,))
    contract = type("TestFault", (Kept,), {"keep": staticmethod(lambda step: copy.deepcopy(keep(step)))})
    with pytest.raises(AssertionError, match="stopped after 3"):
        contract().test_goes_on_as_if_it_had_not_stopped(3)


IN_GRADIENTS = (faulty.MeanOfMeans, faulty.CountsPadding, faulty.Sum, faulty.FullWindow, faulty.Twofold)


@pytest.mark.parametrize("step", [PlainStep, *IN_GRADIENTS], ids=lambda step: step.__name__)
def test_the_gate_sees_it_in_the_gradients(step):
    """``gradient_distance`` from ``plain``, on a last window: some hundreds of eps where sums are in another order."""
    distances = []

    def note(recipe, sample):
        plain, mine = (steps_of(each, sample) for each in (PLAIN, recipe))
        distances.append(mine.distance(plain, "gradient"))

    check(note, MadeBy(step, 4), step_samples(("tokens",), st.just(9)))
    assert max(distances) < 200 if step is PlainStep else max(distances) > 10_000


def steps_of(recipe, sample):
    plan = sample.plan(torch.float32)
    training = Training(plan.model, plan.spec, plan.example, recipe)
    return Steps(training, training.restore)


def test_every_law_has_caught_a_fault():
    """A law that was never seen to be broken is not a law."""
    seen = {fault.caught_by for fault in FAULTS}
    laws = {*step_laws.TRAIN_STEP_LAWS, *accumulation_laws.ACCUMULATION_LAWS, *amp_laws.AMP_LAWS,
            *checkpoint_laws.CHECKPOINT_LAWS}  # fmt: skip
    assert sorted(law.__name__ for law in laws - seen) == []
