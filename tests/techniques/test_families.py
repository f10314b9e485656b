"""Structured pruning of the families that people run: whole units, equal to the mask, right when loaded again."""

import pytest
import torch
from torch import nn

from perfsuite import Structured
from perfsuite.storage import load, save
from perfsuite.techniques.pruning.groups import find_groups
from perfsuite.testing.architecture import numbers_agree_with_shapes
from perfsuite.testing.contract import run
from perfsuite.testing.pruning import drops_what_the_units_owned, equals_the_masked_model
from perfsuite.testing.strategies import Sample
from tests.techniques.families import FAMILIES, SIZES, Family, in_float64, tokens
from tests.techniques.small import HALF

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)
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
    assert linear_weights(model) >= 0.7 * all_matrices(model), "most of the model is not found"


@each_family
def test_numbers_in_modules_and_configs_follow(family):
    numbers_agree_with_shapes(Structured(0.5, 0.25), sample(family))


@each_family
def test_a_small_one_is_loaded_as_it_was(family, tmp_path):
    small = Structured(0.5, 0.5, scope="global").apply(family.build()).eval()
    again = in_float64(load(save(small, tmp_path / "saved")))
    assert torch.equal(run(again, family.inputs()), run(small, family.inputs()))


def linear_weights(model):
    """Of all groups together, each tensor once."""
    found = {id(part.values): part.values.numel() for group in find_groups(model) for part in group.slices}
    return sum(found.values())


def all_matrices(model):
    """All weights of layers that take what other layers give: no tables, no kernels over pixels or sound."""
    tables = {module.weight for module in model.modules() if isinstance(module, nn.Embedding)}
    kernels = {p for module in model.modules() if isinstance(module, CONVOLUTIONS) for p in module.parameters()}
    return sum(p.numel() for p in model.parameters() if p.dim() > 1 and p not in tables | kernels)


def test_layers_of_a_class_that_computes_what_linear_ones_do_are_cut():
    """Falcon's feed-forward network is of a class of its own."""
    drawn = sample(Family("FalconForCausalLM", {**SIZES, "intermediate_size": 24, "ffn_hidden_size": 24}, tokens))
    equals_the_masked_model(HALF, drawn)
    drops_what_the_units_owned(HALF, drawn)
    small = HALF.apply(drawn.model)
    assert [layer.mlp.dense_h_to_4h.out_features for layer in small.transformer.h] == [12, 12]
    assert small.config.ffn_hidden_size == 12
