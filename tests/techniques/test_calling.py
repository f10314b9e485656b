"""A result that cannot be called where its model can is an error that names the module, when it is made."""

import ast
import re
from dataclasses import replace

import pytest
import torch
from torch import nn

from perfsuite import Precision, Structured, WeightOnly, parse_technique, provenance, unchecked
from perfsuite.errors import TechniqueError
from perfsuite.techniques.pruning import removal
from perfsuite.testing.contract import state_bytes
from tests.techniques.small import HALF, bert, randn


class OverSteps(nn.Module):
    """BatchNorm1d after a linear layer normalises steps here, of which there are as many as units."""

    def __init__(self):
        super().__init__()
        self.up, self.norm, self.down = nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Linear(16, 8)
        self.after = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 4))

    def forward(self, x):
        return self.after(self.down(self.norm(self.up(x))))


@pytest.fixture
def taken_for_units(monkeypatch):
    """Data tell that the norm is of steps; here they are not asked, so that what is cut cannot be called."""
    monkeypatch.setattr(removal, "_normalizes_units_or_steps", lambda model: False)


def pictures():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.LocalResponseNorm(2), nn.Conv2d(4, 4, 1)
    )  # the norm has no bf16 on CPUs


CASES = [
    (OverSteps, Structured(0.5, 0.5), "exclude", "norm", randn(2, 16, 8)),
    (pictures, Precision("bf16"), "keep_fp32", "1", randn(2, 3, 5, 5)),
]


@pytest.mark.usefixtures("taken_for_units")
@pytest.mark.parametrize(("make", "technique", "field", "name", "x"), CASES)
def test_the_module_that_fails_is_named_with_a_remedy_that_works(make, technique, field, name, x):
    model = make().eval()
    before = state_bytes(model)
    with pytest.raises(
        TechniqueError, match=rf"cannot be called on the first batch of the data: '{name}' fails: "
    ) as told:
        technique.apply(model, data=[x])
    assert state_bytes(model) == before
    typed, entries = re.search(r"(\w+)=(\(.*\))", told.value.remedy).groups()
    assert typed == field
    result = replace(technique, **{field: ast.literal_eval(entries)}).apply(model, data=[x])
    assert result.eval()(x).shape == model(x).shape


def test_as_many_units_as_steps_in_two_dimensions_are_cut():
    model, x = OverSteps().eval(), randn(4, 8)
    assert HALF.apply(model, data=[x]).norm.num_features == 8


@pytest.mark.usefixtures("taken_for_units")
def test_what_is_not_to_be_checked_is_given_as_it_is():
    with unchecked():
        result = HALF.apply(OverSteps().eval(), data=[randn(2, 16, 8)])
    with pytest.raises(RuntimeError):
        result(randn(2, 16, 8))


@pytest.mark.parametrize(
    "technique", [HALF, WeightOnly(3), Precision("bf16"), parse_technique("bf16-autocast")], ids=str
)
def test_neither_model_nor_result_keeps_anything_of_it(technique):
    model = bert().train()
    states = torch.get_rng_state()
    result = technique.apply(model)
    assert torch.equal(states, torch.get_rng_state())
    assert all(module.training for module in (*model.modules(), *result.modules()))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    found = provenance(result)[-1].fidelity
    assert (found is not None and found.decibels > 40) == isinstance(technique, Precision)


def test_a_model_that_cannot_be_called_on_the_data_is_not_held_against_it():
    assert HALF.apply(OverSteps().eval(), data=[randn(2, 3)]).up.out_features == 8
