"""Half precision first, then integers: the result runs, follows the original, and comes back from its file."""

import copy

import pytest
import torch
from torch import nn

from perfsuite.measure.outputs import fidelity
from perfsuite.models.encoder import TransformerEncoder
from perfsuite.models.seeding import seeded
from perfsuite.protocols import Inputs
from perfsuite.storage import load, save
from perfsuite.techniques.values import parse_technique
from perfsuite.testing.contract import run

NAMES = ["bf16+int8-dynamic", "fp16+int8-dynamic", "bf16+weight-only-4", "fp16+weight-only-8", "bf16+int8-static"]
FLOORS = {"bf16+weight-only-4": 12}  # dB; of 4 bits by themselves, on random weights
IDS = Inputs((torch.arange(14).reshape(2, 7),))
X = Inputs((torch.randn(3, 4, 16, generator=torch.Generator().manual_seed(0)),))


def encoder():
    with seeded(0):
        return TransformerEncoder(50, 16, 4, 2, 32, dropout=0.0, max_seq_length=16, num_classes=3).eval()


def attention_first():
    """The parameter that the hooks look at is gone once the attention is split."""
    with seeded(0):
        return nn.TransformerEncoderLayer(16, 4, 32, batch_first=True).eval()


@pytest.mark.parametrize(("make", "inputs"), [(encoder, IDS), (attention_first, X)])
@pytest.mark.parametrize("name", NAMES)
def test_the_result_follows_the_original(name, make, inputs):
    model = make()
    changed = parse_technique(name).apply(model, data=[inputs])
    before, after = run(model, inputs), run(changed, inputs)
    assert after.dtype is torch.float32
    assert fidelity(before.double(), after.double())["sqnr"] > FLOORS.get(name, 30)


@pytest.mark.parametrize("name", NAMES)
def test_it_comes_back_from_its_file_and_can_be_moved(name, tmp_path):
    changed = parse_technique(name).apply(encoder(), data=[IDS])
    again = load(save(changed, tmp_path / "saved"))
    assert torch.equal(run(again, IDS), run(changed, IDS))
    wide = copy.deepcopy(changed).float()
    assert fidelity(run(changed, IDS), run(wide, IDS))["sqnr"] > 30


@pytest.mark.parametrize("name", ["bf16", "bf16+int8-dynamic"])
def test_it_can_be_exported(name):
    changed = parse_technique(name).apply(encoder())
    exported = torch.export.export(changed, IDS.args).module()
    torch.testing.assert_close(run(exported, IDS), run(changed, IDS), rtol=0.05, atol=0.05)
