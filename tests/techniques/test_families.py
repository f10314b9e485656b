"""Structured pruning of the families that people run: whole units, equal to the mask, right when loaded again."""

import pytest
import torch

from perfsuite import Structured
from perfsuite.storage import load, save
from perfsuite.techniques.pruning.groups import find_groups
from perfsuite.testing.architecture import numbers_agree_with_shapes
from perfsuite.testing.contract import run
from perfsuite.testing.pruning import drops_what_the_units_owned, equals_the_masked_model
from perfsuite.testing.strategies import Sample
from tests.techniques.families import FAMILIES
from tests.techniques.small import HALF

each_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


def sample(family):
    return Sample(family.build(), family.inputs(), family.name)


@each_family
def test_half_of_a_family_equals_its_masked_model(family):
    drawn = sample(family)
    equals_the_masked_model(HALF, drawn)
    drops_what_the_units_owned(HALF, drawn)
    before, after = run(drawn.model, drawn.inputs), run(HALF.apply(drawn.model).eval(), drawn.inputs)
    assert float((before - after).abs().max()) > 1e-3, "what was removed computed nothing"


@each_family
def test_the_layers_that_are_cut_are_half_as_large(family):
    model = family.build()
    small = HALF.apply(model)
    assert linear_weights(model) / linear_weights(small) >= family.smaller


@each_family
def test_numbers_in_modules_and_configs_follow(family):
    numbers_agree_with_shapes(Structured(0.5, 0.25), sample(family))


@each_family
def test_a_small_one_is_loaded_as_it_was(family, tmp_path):
    small = Structured(0.5, 0.5, scope="global").apply(family.build()).eval()
    again = load(save(small, tmp_path / "saved"))
    assert torch.equal(run(again, family.inputs()), run(small, family.inputs()))


def linear_weights(model):
    """Of all groups together, each tensor once."""
    found = {id(part.values): part.values.numel() for group in find_groups(model) for part in group.slices}
    return sum(found.values())
