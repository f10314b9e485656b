"""A loop on Accelerate is a recipe."""

from functools import partial
from typing import ClassVar

import pytest
import torch

from perfsuite.errors import UsageError
from perfsuite.phases import BACKWARD, FORWARD, OPTIMIZER, heard
from perfsuite.testing import AccumulationContract, AmpContract, TrainStepContract
from perfsuite.testing import accumulation as laws
from perfsuite.testing.steps import differing, made, taken
from perfsuite.training.step import make_step
from perfsuite.training.trainers.accelerate import FromAccelerate
from tests.trainers.trainers import Told, loop, of_tokens, simple_loop


class TestAccumulation(AccumulationContract):
    recipe = FromAccelerate("mine", loop)
    tasks = ("tokens",)
    without: ClassVar = {"refuses_normalization_over_the_batch": "Accelerate lets people do it"}


class TestStep(TrainStepContract):
    recipe = FromAccelerate("mine", partial(loop, steps=1))
    tasks = ("tokens",)
    without: ClassVar = {
        "forgets_the_gradients_of_before": "it clears them after its steps, and before the first",
        "follows_the_schedule": "it has a schedule of its own",
    }


class TestBf16(AmpContract):
    recipe = FromAccelerate("mine", partial(loop, steps=1, precision="bf16"))
    tasks = ("tokens",)
    without: ClassVar = {"gives_what_no_scaling_gives": "it has an optimizer of its own"}


@pytest.mark.parametrize("make", [partial(loop, wrong=True), simple_loop], ids=["means", "simple"])
@pytest.mark.parametrize("law", [laws.adds_up_to_the_whole_batch, laws.scales_a_partial_window])
def test_a_loop_whose_means_are_averaged_is_caught(law, make):
    contract = type("TestMine", (TestAccumulation,), {"recipe": FromAccelerate("mine", make)})
    with pytest.raises(AssertionError, match="is off by"):
        contract().test_law(law)


class TestSimple(TestAccumulation):
    """Right where each example counts as much as another, and windows are whole."""

    recipe = FromAccelerate("mine", simple_loop)
    tasks = ("classes",)
    without: ClassVar = TestAccumulation.without | {"scales_a_partial_window": "Accelerate divides by a whole one"}


def test_what_is_no_loop_is_refused():
    with pytest.raises(UsageError, match="what makes 'mine' gives a builtin_function"):
        make_step(FromAccelerate("mine", lambda model: print).apply(of_tokens().plan()))


def test_trainers_in_one_process_have_a_state_of_their_own():
    """Accelerate has one for all of a process, whose precision and accumulation the last one made would set."""
    sample = of_tokens()
    four, one, half = (
        make_step(FromAccelerate("mine", partial(loop, **changes)).apply(sample.plan(torch.float32)))
        for changes in ({}, {"steps": 1}, {"precision": "bf16"})
    )
    assert differing(taken(four, sample.batch), taken(made(FromAccelerate("mine", loop), sample), sample.batch)) == []
    told = Told()
    with heard(told):
        one(sample.batch)
    assert told.names == [FORWARD, BACKWARD, OPTIMIZER]
    assert half.scaler is None


def test_an_accelerator_that_was_there_before_is_refused():
    model = of_tokens().model
    there = loop(model)
    with pytest.raises(UsageError, match="the accelerator of 'mine' was made before its trainer was asked for"):
        make_step(FromAccelerate("mine", lambda model: there).apply(of_tokens().plan()))


def test_its_phases_are_heard():
    sample = of_tokens()
    step = make_step(FromAccelerate("mine", loop).apply(sample.plan()))
    told = Told()
    with heard(told):
        step(sample.plan().example)
    assert told.names == [FORWARD, BACKWARD] * 4 + [OPTIMIZER]
