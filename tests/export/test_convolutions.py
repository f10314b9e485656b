"""What our convolutions are lowered to for a runtime."""

import pytest
import torch
from torch import nn

import perfsuite
from perfsuite.errors import TechniqueError
from perfsuite.export.convolutions import DynamicConvolution, FloatConvolution, GriddedConvolution, StaticConvolution
from perfsuite.export.lowering import Dialect, OnTheFly, lowered
from perfsuite.models.seeding import seeded

LOWERED = {
    ("int8-dynamic", OnTheFly.GRAPH): DynamicConvolution,
    ("int8-dynamic", OnTheFly.KERNEL): FloatConvolution,
    ("int8-static", OnTheFly.GRAPH): StaticConvolution,
    ("int8-static", OnTheFly.KERNEL): GriddedConvolution,
    ("int8-static", OnTheFly.NOWHERE): GriddedConvolution,
}


def converted(technique):
    with seeded(0):
        return perfsuite.parse_technique(technique).apply(
            nn.Sequential(nn.Conv1d(64, 4, 8)), data=[torch.randn(2, 64, 9)]
        )


@pytest.mark.parametrize(("technique", "where"), LOWERED)
def test_each_has_the_form_in_which_a_runtime_finds_the_integers(technique, where):
    (layer,) = lowered(converted(technique), Dialect("theirs", where))
    assert type(layer) is LOWERED[technique, where]


def test_a_runtime_that_quantizes_nothing_on_the_fly_refuses_it():
    with pytest.raises(TechniqueError, match="theirs has no convolution of int8"):
        lowered(converted("int8-dynamic"), Dialect("theirs", OnTheFly.NOWHERE))
