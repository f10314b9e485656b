"""What is seen of a trainer's step is what is seen of ours: memory by kind, one step of the optimizer, its distance."""

import pytest
import torch

from perfsuite.measure.steps import Steps
from perfsuite.recipes.plain import PLAIN
from perfsuite.training.run import Training
from perfsuite.training.trainers.accelerate import FromAccelerate
from perfsuite.training.trainers.huggingface import FromTrainer
from perfsuite.training.trainers.lightning import FromLightning
from tests.trainers.modules import fitted
from tests.trainers.trainers import loop, of_tokens, right

TRAINERS = (FromTrainer("transformers", right), FromAccelerate("accelerate", loop), FromLightning("lightning", fitted))


def steps(recipe):
    plan = of_tokens().plan(torch.float32)
    training = Training(plan.model, plan.spec, plan.example, recipe)
    return Steps(training, training.restore)


@pytest.mark.parametrize("recipe", TRAINERS, ids=lambda recipe: recipe.name)
def test_a_step_is_observed(recipe):
    mine, plain = steps(recipe), steps(PLAIN)
    memory = mine.memory.at_peak
    assert all(memory[kind] for kind in ("parameter", "gradient", "optimizer", "activation"))
    assert memory["parameter"] == plain.memory.at_peak["parameter"]
    assert mine.memory.saved_bytes < plain.memory.saved_bytes / 2
    assert (mine.taken, mine.skipped) == (1, 0)
    assert mine.recompute(plain) == pytest.approx(1, abs=0.01)
    is_right = recipe.name != "lightning"  # which has the mean of means
    assert (mine.distance(plain, "gradient") < 200) == is_right
    assert (mine.distance(plain, "weight") < 200) == is_right
