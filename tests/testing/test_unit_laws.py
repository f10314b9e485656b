"""The laws of removed units hold for what is found by following a call, and catch what is wrong there."""

import copy

import hypothesis.strategies as st
import pytest
import torch
from torch import nn

from perfsuite import Structured
from perfsuite.models.seeding import seeded
from perfsuite.protocols import Inputs
from perfsuite.techniques.recorded import provenance
from perfsuite.testing import StructuredContract, pruning
from perfsuite.testing.kept import found_groups, kept_units
from perfsuite.testing.strategies import Sample

HALF = Structured(0.5, 0.5)


class Mixer(nn.Module):
    """Of somebody's own: heads in one fused layer, units with a gate, and channels that a residual couples."""

    def __init__(self, width=12, heads=4):
        super().__init__()
        self.heads = heads
        self.stem, self.norm = nn.Linear(6, width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * 16), nn.Linear(16, width)
        self.gate, self.up, self.down = nn.Linear(width, 10), nn.Linear(width, 10), nn.Linear(10, width)
        self.left, self.right, self.last = nn.Linear(width, 8), nn.Linear(width, 8), nn.Linear(8, 3)

    def forward(self, x):
        x = self.norm(self.stem(x))  # (B, T, D)
        split = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (3, B, H, T, D / H)
        seen = torch.softmax(split[0] @ split[1].mT, dim=-1) @ split[2]
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        x = x + self.down(self.gate(x).sigmoid() * self.up(x))
        return self.last(self.left(x).relu() + self.right(x).relu())


class Images(nn.Module):
    """A residual, depthwise channels, and squeeze-excite."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.expand, self.depth = nn.Conv2d(8, 16, 1), nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.squeeze, self.excite = nn.Linear(16, 4), nn.Linear(4, 16)
        self.project, self.last = nn.Conv2d(16, 8, 1), nn.Linear(8, 2)

    def forward(self, x):
        x = self.norm(self.stem(x)).relu()
        y = self.depth(self.expand(x)).relu()
        y = y * self.excite(self.squeeze(y.mean((2, 3))).relu()).sigmoid()[..., None, None]
        return self.last((x + self.project(y)).mean((2, 3)))


def sample(make, seed=0):
    with seeded(seed):
        model = make().eval()
        x = torch.randn(2, 5, 6) if make is Mixer else torch.randn(2, 3, 6, 6)
    return Sample(model, Inputs((x,)), f"{make.__name__} seed={seed}")


class TestUnknown(StructuredContract):
    technique = HALF
    samples = st.builds(sample, st.sampled_from([Mixer, Images]), st.integers(0, 1))


@pytest.mark.parametrize(("make", "number"), [(Mixer, 3), (Images, 3)])
def test_all_that_was_cut_is_found_by_its_bytes(make, number):
    drawn = sample(make)
    small = HALF.apply(drawn.model, data=drawn.data)
    kept = kept_units(drawn.model, small, drawn)
    assert {units.name: len(left) for units, left in kept.found} == {
        name: left for of_kind in provenance(small)[-1].structure["kept"].values() for name, left in of_kind.items()
    }
    assert (len(kept.found), len(kept.declared)) == (number, 0)


class Wrong:
    """Cuts rightly, and then spoils something."""

    def __init__(self, spoil):
        self.spoil = spoil

    def apply(self, model, *, data=None):
        result = HALF.apply(model, data=data)
        with torch.no_grad():
            self.spoil(result)
        return result


def moves_a_bias(model):
    model.down.bias.add_(1e-6)


def swaps_units(model):
    for layer in (model.gate, model.up):
        layer.weight.copy_(layer.weight.flip(0))


def zeroes_a_column(model):
    model.last.weight[:, 0] = 0


@pytest.mark.parametrize("spoil", [moves_a_bias, swaps_units, zeroes_a_column])
def test_what_does_not_equal_the_mask_is_caught(spoil):
    with pytest.raises(AssertionError, match=r"differs from the masked model|not some of the original's"):
        pruning.equals_the_masked_model(Wrong(spoil), sample(Mixer))


def test_parameters_that_went_without_their_units_are_caught():
    def drops(model):
        model.last.bias = None

    with pytest.raises(AssertionError, match="the removed units owned"):
        pruning.drops_what_the_units_owned(Wrong(drops), sample(Mixer))


def test_a_record_of_units_that_the_original_has_not_is_caught():
    drawn = sample(Mixer)
    small = HALF.apply(drawn.model, data=drawn.data)
    other = copy.deepcopy(drawn.model)
    other.down = nn.Sequential(nn.LayerNorm(10), nn.Linear(10, 12))  # what reads the units looks at all of them
    with pytest.raises(AssertionError, match="no such units are found in the original"):
        found_groups(other, small, drawn)
