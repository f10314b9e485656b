"""Convolutions that are stored in int8 compute the same as with the weights that their codes stand for."""

import json

import pytest
import torch
import transformers as tf
from torch import nn

import perfsuite
from perfsuite.models.seeding import seeded
from perfsuite.protocols import Inputs
from perfsuite.storage import count_stored
from perfsuite.techniques.quantization.reading import ReadingProduct
from perfsuite.testing.contract import run

FOUR = perfsuite.parse_technique("weight-only-4")
KINDS = {
    "1d": (lambda: nn.Conv1d(4, 8, 3, padding="same", dilation=2), (2, 4, 9)),
    "2d": (lambda: nn.Conv2d(4, 8, 3, stride=2, padding=1), (2, 4, 9, 9)),
    "depthwise": (lambda: nn.Conv2d(4, 8, 3, groups=4, bias=False), (2, 4, 9, 9)),
    "3d": (lambda: nn.Conv3d(4, 8, (1, 2, 3)), (2, 4, 3, 4, 5)),
    "circular": (lambda: nn.Conv2d(4, 8, 3, padding=1, padding_mode="circular"), (2, 4, 9, 9)),
    "transposed": (lambda: nn.ConvTranspose2d(4, 8, 3, stride=2, groups=2, output_padding=1), (2, 4, 5, 5)),
    "subclass": (lambda: Own(4, 8, 3), (2, 4, 9, 9)),
    "standardized": (lambda: Standardized(4, 8, 3), (2, 4, 9, 9)),
}
STORING = ["weight-only-4", "int8-dynamic", "int8-static"]


class Own(nn.Conv2d):
    def forward(self, input):
        return 2 * super().forward(input)


class Standardized(nn.Conv2d):
    """As in BiT."""

    def forward(self, input):
        weight = self.weight / (self.weight.std(dim=(1, 2, 3), keepdim=True) + 1e-6)
        return nn.functional.conv2d(input, weight, self.bias)


def drawn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def net():
    with seeded(0):
        return nn.Sequential(
            nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
        ).eval()  # fmt: skip


@pytest.mark.parametrize("technique", STORING)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_it_computes_with_the_weights_that_the_codes_stand_for(kind, dtype, technique):
    make, shape = KINDS[kind]
    with seeded(0):
        layer = make().to(dtype)
    x = drawn(*shape).to(dtype)
    (stored,) = perfsuite.parse_technique(technique).apply(nn.Sequential(layer), data=[x])
    assert isinstance(stored, ReadingProduct)
    assert isinstance(stored, type(layer))  # whose forward stays
    assert stored.weight.shape == layer.weight.shape
    largest = layer.weight.detach().abs().flatten(1).amax(1).double()
    error = (stored.weight.double() - layer.weight.double()).detach().abs().flatten(1).amax(1)
    assert bool((error <= largest * (0.5 / 127 + (2**-8 if dtype is torch.bfloat16 else 1e-6))).all())
    layer.weight.data = torch.clone(stored.weight)
    assert torch.equal(stored(x), layer(x))


def test_a_network_is_stored_in_a_quarter_and_comes_back(tmp_path):
    model, inputs = net(), Inputs((drawn(2, 3, 12, 12),))
    changed = FOUR.apply(model)
    assert count_stored(model).size_bytes > 3.3 * count_stored(changed).size_bytes
    again = perfsuite.load_model(perfsuite.save_model(changed, tmp_path / "saved"), model=net())
    assert torch.equal(run(again, inputs), run(changed, inputs))
    expected = run(model, inputs)
    assert float((run(changed, inputs) - expected).norm() / expected.norm()) < 0.1


def test_a_folder_of_before_in_which_convolutions_are_in_float_is_read(tmp_path):
    """Its record does not name them."""
    before = perfsuite.WeightOnly(4, exclude=("0", "3")).apply(net())
    folder = perfsuite.save_model(before, tmp_path / "saved")
    recipe = json.loads((folder / "perfsuite.json").read_text())
    recipe["steps"][0]["config"]["exclude"] = []
    (folder / "perfsuite.json").write_text(json.dumps(recipe))
    again = perfsuite.load_model(folder, model=net())
    assert type(again[0]) is nn.Conv2d
    inputs = Inputs((drawn(2, 3, 12, 12),))
    assert torch.equal(run(again, inputs), run(before, inputs))


class Counting(nn.Conv2d):
    """What it answers depends on how often it was called: nothing can be proven of it."""

    calls = 0

    def forward(self, input):
        self.calls += 1
        return super().forward(input) * self.calls


class Writing(nn.Conv2d):
    def forward(self, input):
        self.weight.data.clamp_(-1, 1)
        return super().forward(input)


@pytest.mark.parametrize("make", [lambda: Counting(3, 4, 3), lambda: Writing(3, 4, 3)], ids=["counting", "writing"])
def test_what_cannot_be_proven_stays_in_float_and_is_named(make):
    with seeded(0):
        model = nn.Sequential(make(), nn.Flatten(), nn.LazyLinear(4)).eval()
        model(drawn(2, 3, 6, 6))
    changed = FOUR.apply(model)
    assert type(changed[0]) is type(model[0])
    assert perfsuite.provenance(changed)[-1].structure["in_float"] == ["0"]


def test_a_resnet_of_transformers_goes_through(tmp_path):
    with seeded(0):
        config = tf.ResNetConfig(embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1])
        model = tf.ResNetForImageClassification(config).eval()
    inputs = Inputs(kwargs={"pixel_values": drawn(2, 3, 32, 32)})
    changed = perfsuite.parse_technique("weight-only-8").apply(model)
    expected, found = run(model, inputs), run(changed, inputs)
    assert float(10 * torch.log10(expected.square().sum() / (expected - found).square().sum())) > 30
    assert torch.equal(run(perfsuite.load_model(perfsuite.save_model(changed, tmp_path)), inputs), found)
