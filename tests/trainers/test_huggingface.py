"""A Trainer of transformers is a recipe: its own loop is judged, and a fault of its user's is seen."""

import copy
from typing import ClassVar

import pytest
from torch import nn

from perfsuite.errors import UsageError
from perfsuite.phases import BACKWARD, FORWARD, OPTIMIZER, heard
from perfsuite.recipes.accumulate import Accumulate
from perfsuite.testing import AccumulationContract, AmpContract, TrainStepContract
from perfsuite.testing import accumulation as laws
from perfsuite.training.step import make_step
from perfsuite.training.trainers.huggingface import FromTrainer
from tests.trainers.trainers import Told, heard_modes, of_tokens, right, wrong


class TestAccumulation(AccumulationContract):
    recipe = FromTrainer("mine", right)
    tasks = ("tokens",)
    without: ClassVar = {"refuses_normalization_over_the_batch": "transformers lets people do it"}


class TestStep(TrainStepContract):
    recipe = FromTrainer("mine", lambda model: right(model, gradient_accumulation_steps=1))
    tasks = ("tokens",)
    without: ClassVar = {
        "forgets_the_gradients_of_before": "it clears them after its steps, and before the first",
        "follows_the_schedule": "it has a schedule of its own",
    }


class TestBf16(AmpContract):
    recipe = FromTrainer("mine", lambda model: right(model, gradient_accumulation_steps=1, bf16=True))
    tasks = ("tokens",)
    without: ClassVar = {"gives_what_no_scaling_gives": "it has an optimizer of its own"}


@pytest.mark.parametrize(
    "law", [laws.adds_up_to_the_whole_batch, laws.scales_a_partial_window, laws.logs_the_loss_of_the_whole_batch]
)
def test_a_trainer_whose_means_are_averaged_is_caught(law):
    contract = type("TestMine", (TestAccumulation,), {"recipe": FromTrainer("mine", wrong)})
    with pytest.raises(AssertionError, match="is off by"):
        contract().test_law(law)


def plan():
    return of_tokens().plan()


def test_what_another_recipe_changes_is_refused():
    with pytest.raises(UsageError, match="'mine' makes all of its step: the micro_batches of another"):
        make_step(Accumulate(4).apply(FromTrainer("mine", right).apply(plan())))


def test_what_is_no_trainer_is_refused():
    with pytest.raises(UsageError, match="what makes 'mine' gives a Linear"):
        make_step(FromTrainer("mine", lambda model: nn.Linear(2, 2)).apply(plan()))


def test_a_trainer_of_another_model_is_refused():
    with pytest.raises(UsageError, match="trains other parameters than those of the model that is gated"):
        make_step(FromTrainer("mine", lambda model: right(copy.deepcopy(model))).apply(plan()))


def test_nothing_drawn_is_nothing_drawn():
    """A Trainer calls train() in each step: where the model is in eval mode, dropout drops nothing all the same."""
    step = make_step(FromTrainer("mine", right).apply(plan()))
    step.model.eval()
    with heard_modes(step.model) as modes:
        step(plan().example)
    assert set(modes) == {False}


def test_its_phases_are_heard():
    step = make_step(FromTrainer("mine", right).apply(plan()))
    told = Told()
    with heard(told):
        step(plan().example)
    assert told.names == [FORWARD, BACKWARD] * 4 + [OPTIMIZER]
