"""A cast result is called beside its model: an answer that is nonsense is an error that names the layer.

The layers here lose digits on any machine, as kernels of half precision do on some.
"""

import ast
import re

import pytest
import torch
from torch import nn

from perfsuite import Precision, parse_technique, provenance, unchecked
from perfsuite.errors import TechniqueError
from perfsuite.protocols import Inputs
from perfsuite.techniques.fidelity import FidelityWarning
from perfsuite.techniques.precision.keepable import keepable
from perfsuite.testing.contract import state_bytes
from tests.techniques.small import mlp, randn


class Cancels(nn.Module):
    """Adds a large number and takes it away: bf16 has eight bits for both, fp32 twenty-four."""

    def __init__(self, offset=3000.0):
        super().__init__()
        self.offset = offset

    def forward(self, x):
        return x + self.offset - self.offset


class Attention(nn.Module):
    """Reads its projection, as WavLM's does, and loses digits by itself."""

    def __init__(self):
        super().__init__()
        self.query, self.out = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        return self.out(nn.functional.linear(x, self.query.weight, self.query.bias) + 50000.0 - 50000.0)


def losing(*kinds):
    torch.manual_seed(0)
    return nn.Sequential(mlp(8, 8, 8), *(kind() for kind in kinds), nn.Linear(8, 8)).eval()


def refused(technique, model, data):
    before = state_bytes(model)
    with pytest.raises(TechniqueError) as told:
        technique.apply(model, data=data)
    assert state_bytes(model) == before
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    return told.value


@pytest.mark.parametrize("name", ["bf16", "fp16"])
@pytest.mark.parametrize(
    ("layers", "entries"),
    [((Cancels,), ("1",)), ((Attention,), ("1",)), ((Cancels, nn.ReLU, Attention), ("1", "3"))],
    ids=["leaf", "reader", "two"],
)
def test_nonsense_is_an_error_that_names_the_layer_and_the_remedy_works(name, layers, entries):
    model, data = losing(*layers), [randn(4, 8)]
    error = refused(Precision(name), model, data)
    assert re.search(rf"^what {name} makes of the Sequential is at -?\d+\.\d dB, and \d\d are promised", error.what)
    typed = ast.literal_eval(re.search(r"keep_fp32=(\(.*\))", error.remedy)[1])
    assert typed == entries
    assert provenance(Precision(name, keep_fp32=typed).apply(model, data=data))[-1].fidelity.decibels > 25


def test_what_is_kept_already_is_kept_in_the_remedy_too():
    model, data = losing(Cancels, Attention), [randn(4, 8)]
    assert "keep_fp32=('2',)" in refused(Precision("bf16", keep_fp32=("1",)), model, data).remedy


def test_autocast_keeps_no_layers_and_says_what_does():
    error = refused(parse_technique("bf16-autocast"), losing(Cancels), [randn(4, 8)])
    assert "to blame" not in error.what
    assert error.remedy == "use 'bf16', which can leave layers in fp32"


def test_digits_that_are_missing_are_a_warning_that_says_what_keeps_them():
    with pytest.warns(
        FidelityWarning, match=r"^bf16 of the Sequential is at 1\d\.\d dB .* in fp32 \(keep_fp32="
    ) as told:
        Precision("bf16").apply(losing(lambda: Cancels(30.0)), data=[randn(4, 8)])
    assert [warning.filename for warning in told] == [__file__]


@pytest.mark.parametrize(("name", "usual"), [("bf16", 25.0), ("fp16", 43.06)])
def test_more_bits_promise_more(name, usual):
    model = mlp(64, 64, 64)
    for technique in (Precision(name), Precision(name, autocast=True)):
        assert technique.promise.usual == pytest.approx(usual)
        assert provenance(technique.apply(model, data=[randn(8, 64)]))[-1].fidelity.decibels > usual + 5


def test_a_model_in_bf16_has_no_more_bits_to_follow():
    assert Precision("fp16").promise_for(mlp(8, 8).bfloat16()).usual == Precision("bf16").promise.usual
    assert Precision("fp16").promise_for(mlp(8, 8)) == Precision("fp16").promise


def test_without_inputs_or_unchecked_nothing_is_claimed():
    model = losing(Cancels)
    assert provenance(Precision("bf16").apply(model))[-1].fidelity.decibels is None
    with unchecked():
        result = Precision("bf16").apply(model, data=[randn(4, 8)])
    assert str(provenance(result)[-1].fidelity) == "not checked: it was switched off"


def test_the_smallest_modules_that_are_called_can_be_kept():
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(8, 8))
    model = nn.Sequential(nn.Sequential(layer, nn.ReLU()), Attention(), nn.Linear(8, 8))
    assert keepable(model, (), Inputs((randn(2, 8),))) == ["0.0", "0.1", "1", "2"]
    assert keepable(model, ("0",), Inputs((randn(2, 8),))) == ["1", "2"]
    assert not any(module._forward_hooks for module in model.modules())
