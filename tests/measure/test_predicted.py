"""What is predicted of a step is what is observed of it, to the byte."""

import pytest
import torch

from perfsuite.errors import UsageError
from perfsuite.measure.predicted import largest_batch, predicted, resized, smallest_batch
from perfsuite.measure.step_memory import observe
from perfsuite.protocols import Inputs
from perfsuite.recipes.values import parse_recipe
from tests.training.specs import encoder, spec, tagger, training


@pytest.mark.parametrize("recipe", ["plain", "accumulate-3+clip", "checkpoint", "fp16-amp+one-cycle"])
def test_a_prediction_is_what_the_real_step_shows(recipe):
    made = training(recipe, batch_size=6)
    found = predicted(encoder(), spec(), training().batch, parse_recipe(recipe), 6)
    assert found == observe(made)


def test_the_model_is_left_as_it_is():
    model = encoder()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    predicted(model, spec(), training().batch, parse_recipe("plain"), 2)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(p.requires_grad is False for p in model.parameters())


class Branching(type(tagger())):
    def forward(self, tokens):
        found = super().forward(tokens)
        return found * 2 if float(found.sum()) > 0 else found


def test_a_step_that_looks_at_values_is_refused():
    with pytest.raises(UsageError, match="the step of 'tiny' cannot be followed without values"):
        predicted(Branching(), spec(), training().batch, parse_recipe("plain"), 2)


def test_a_batch_of_another_size_keeps_what_is_not_of_the_batch():
    batch = Inputs((torch.zeros(2, 3), torch.zeros(4, 2)), {"flag": True}, torch.zeros(2, dtype=torch.long))
    found = resized(batch, 5)
    assert [value.shape[0] for value in found.args] == [5, 4]
    assert found.kwargs == {"flag": True}
    assert (found.labels.shape, found.labels.dtype) == ((5,), torch.long)


@pytest.mark.parametrize(("limit", "expected"), [(99, 0), (100, 0), (110, 1), (1000, 90), (1009, 90), (10**9, 2**20)])
def test_the_largest_batch_that_fits_is_found(limit, expected):
    asked = []

    def peak(size):
        asked.append(size)
        return 100 + 10 * size

    assert largest_batch(peak, limit) == expected
    assert len(asked) < 60


@pytest.mark.parametrize(("limit", "expected"), [(129, 0), (130, 3), (170, 7)])
def test_accumulation_needs_an_example_for_each_micro_batch(limit, expected):
    smallest = smallest_batch(parse_recipe("accumulate-3+bf16-amp"))

    def peak(size):
        assert size >= 3
        return 100 + 10 * size

    assert largest_batch(peak, limit, smallest) == expected
