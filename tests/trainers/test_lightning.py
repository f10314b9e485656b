"""A LightningModule and its Trainer are a recipe; what Lightning itself does not do right is seen."""

from functools import partial
from typing import ClassVar

import pytest

from perfsuite.errors import UsageError
from perfsuite.phases import BACKWARD, FORWARD, OPTIMIZER, heard
from perfsuite.testing import AccumulationContract, AmpContract, TrainStepContract
from perfsuite.testing import accumulation as laws
from perfsuite.training.step import make_step
from perfsuite.training.trainers.lightning import FromLightning
from tests.trainers.modules import TwoOptimizers, fitted
from tests.trainers.trainers import Told, of_tokens


class TestAccumulation(AccumulationContract):
    recipe = FromLightning("mine", fitted)
    tasks = ("classes",)
    without: ClassVar = {
        "scales_a_partial_window": "Lightning divides the last window by the length of a whole one (#19987)",
        "refuses_normalization_over_the_batch": "Lightning lets people do it",
    }


class TestStep(TrainStepContract):
    recipe = FromLightning("mine", partial(fitted, steps=1))
    tasks = ("classes",)
    without: ClassVar = {"follows_the_schedule": "it has a schedule of its own"}


class TestBf16(AmpContract):
    recipe = FromLightning("mine", partial(fitted, steps=1, precision="bf16-mixed"))
    tasks = ("classes",)
    without: ClassVar = {"gives_what_no_scaling_gives": "it has an optimizer of its own"}


@pytest.mark.parametrize(
    ("law", "tasks"), [(laws.adds_up_to_the_whole_batch, ("tokens",)), (laws.scales_a_partial_window, ("classes",))],
    ids=["ragged labels", "last window"],
)  # fmt: skip
def test_what_lightning_averages_otherwise_is_caught(law, tasks):
    contract = type("TestMine", (AccumulationContract,), {"recipe": FromLightning("mine", fitted), "tasks": tasks})
    with pytest.raises(AssertionError, match="is off by"):
        contract().test_law(law)


def test_what_optimizes_by_hand_is_refused():
    with pytest.raises(UsageError, match="optimizes by hand, or by 2 optimizers"):
        make_step(FromLightning("mine", partial(fitted, kind=TwoOptimizers, steps=1)).apply(of_tokens().plan()))


def test_a_module_without_its_trainer_is_refused():
    with pytest.raises(UsageError, match="what makes 'mine' gives a Classifier"):
        make_step(FromLightning("mine", lambda model: fitted(model)[0]).apply(of_tokens().plan()))


def test_its_phases_are_heard():
    sample = of_tokens()
    step = make_step(FromLightning("mine", fitted).apply(sample.plan()))
    told = Told()
    with heard(told):
        step(sample.plan().example)
    assert told.names == [FORWARD, BACKWARD] * 4 + [OPTIMIZER]
