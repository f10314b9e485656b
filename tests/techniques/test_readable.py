"""Models read the weights of their layers: of a quantized one they get the floats that its codes stand for."""

import copy
import io

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers.pytorch_utils import Conv1D

from perfsuite import quantize_model
from perfsuite.errors import TechniqueError
from perfsuite.measure.outputs import fidelity
from perfsuite.models.seeding import seeded
from perfsuite.protocols import Inputs
from perfsuite.techniques.quantization.readable import Dequantized, QuantizedLayer
from perfsuite.techniques.values import parse_technique
from perfsuite.testing.contract import run

TECHNIQUES = ["int8-dynamic", "int8-dynamic-tensor", "int8-static", "weight-only-8"]
X = torch.randn(2, 6, 16, generator=torch.Generator().manual_seed(0))


class Reading(nn.Module):
    """Reads weights in the ways that models of other people do."""

    def __init__(self):
        super().__init__()
        self.pos, self.g, self.rel = nn.Embedding(10, 16), nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x):
        time = x.shape[1]
        x = x + self.pos.weight[:time]
        x = self.g(x.to(self.g.weight.dtype))
        return (
            self.rel(x)
            + self.rel.weight.t()[torch.arange(time)]
            + x @ torch.cat([self.g.weight, self.rel.weight]).t()[:, :16]
        )


def reading():
    with seeded(0):
        return Reading().eval()


def quantized(name, model):
    return parse_technique(name).apply(model, data=[X])


@pytest.mark.parametrize("name", TECHNIQUES)
def test_a_model_that_reads_weights_gets_floats(name):
    model = reading()
    changed = quantized(name, model)
    assert all(isinstance(layer, QuantizedLayer) for layer in (changed.pos, changed.g, changed.rel))
    assert fidelity(run(model, Inputs((X,))), run(changed, Inputs((X,))))["sqnr"] > 30


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["int8-dynamic", "weight-only-8"])
def test_the_weight_is_that_of_the_original_in_its_dtype(name, dtype):
    model = reading().to(dtype)
    changed = parse_technique(name).apply(model)
    for layer, original in ((changed.g, model.g), (changed.pos, model.pos)):
        weight, before = layer.weight, original.weight.detach()
        assert (weight.dtype, weight.shape, weight.device, weight.requires_grad) == (
            dtype,
            before.shape,
            before.device,
            False,
        )
        assert (weight.ndim, weight.numel(), weight.size(0), len(weight)) == (
            2,
            before.numel(),
            len(before),
            len(before),
        )
        assert fidelity(before.double(), weight.double())["sqnr"] > 35
        assert torch.equal(weight, layer.dequantized(dtype))
        assert type(weight + 0) is torch.Tensor


@pytest.mark.parametrize("name", TECHNIQUES)
def test_the_weight_of_a_conv1d_is_turned_as_that_has_it(name):
    with seeded(0):
        model = nn.Sequential(Conv1D(12, 16), Conv1D(12, 12))  # 16 and 12 inputs, 12 outputs
    for original, layer in zip(model, quantized(name, model), strict=True):
        assert isinstance(layer, QuantizedLayer)
        assert layer.weight.shape == original.weight.shape
        assert fidelity(original.weight.detach().double(), layer.weight.double())["sqnr"] > 35


def test_the_dtype_of_the_weight_follows_that_of_the_model():
    assert quantize_model(reading()).half().g.weight.dtype is torch.float16


def test_asking_a_weight_for_its_dtype_makes_no_floats(monkeypatch):
    """T5 does so three times in each block."""
    layer = quantize_model(nn.Linear(8, 8))
    monkeypatch.setattr(type(layer), "dequantized", lambda self, dtype: pytest.fail("it was made"))
    weight = layer.weight
    assert (weight.dtype, weight.device.type, weight.dim(), weight.is_floating_point()) == (
        torch.float32,
        "cpu",
        2,
        True,
    )
    assert isinstance(weight, torch.Tensor)
    assert weight.untyped_storage().nbytes() == 4


def test_what_is_written_to_codes_is_read_from_the_weight():
    layer = quantize_model(nn.Linear(8, 8))
    weight = layer.weight
    before = weight + 0
    layer.codes.neg_()
    assert torch.equal(weight, -before)


WRITES = {
    "fill_": lambda weight: weight.fill_(1),
    "data": lambda weight: weight.data.zero_(),
    "no gradients": lambda weight: weight.detach().copy_(torch.ones(8, 8)),
    "a row": lambda weight: weight.__setitem__(0, 1.0),
    "a row's look": lambda weight: weight.data[0].zero_(),
    "some rows": lambda weight: weight[2:4].mul_(2),
    "a column": lambda weight: weight.t()[1].zero_(),
    "+=": lambda weight: weight.__iadd__(1),
    "out": lambda weight: torch.add(torch.ones(8, 8), 1, out=weight),
    "init": nn.init.zeros_,
    "set data": lambda weight: setattr(weight, "data", torch.ones(8, 8)),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("name", ["int8-dynamic", "weight-only-4"])
def test_who_writes_to_the_weight_is_told_instead_of_losing_it(name, write):
    layer = parse_technique(name).apply(nn.Linear(8, 8))
    before = layer.weight + 0
    with pytest.raises((TechniqueError, RuntimeError)), torch.no_grad():
        write(layer.weight)
    assert torch.equal(layer.weight, before)


def test_a_weight_that_is_set_is_refused():
    layer = quantize_model(nn.Linear(8, 8))
    for value in (torch.ones(8, 8), nn.Parameter(torch.ones(8, 8))):
        with pytest.raises((TechniqueError, KeyError)):
            layer.weight = value


def test_what_was_read_is_a_copy_that_may_be_written_to():
    layer = quantize_model(nn.Linear(8, 8))
    before = layer.weight + 0
    rows = layer.weight[torch.arange(3)]
    rows += 1
    layer.weight.clone().zero_()
    torch.zeros(8, 8).add_(layer.weight)
    assert torch.equal(layer.weight, before)
    assert torch.equal(rows, before[:3] + 1)


def test_a_weight_is_copied_pickled_and_printed_as_the_tensor_that_it_is():
    weight = quantize_model(nn.Linear(8, 8)).weight
    buffer = io.BytesIO()
    torch.save(weight, buffer)
    buffer.seek(0)
    for again in (copy.deepcopy(weight), torch.load(buffer, weights_only=True), torch.from_numpy(weight.numpy())):
        assert type(again) is torch.Tensor
        assert torch.equal(again, weight)
    assert repr(weight) == repr(weight + 0)


def test_gradients_flow_past_a_weight_that_was_read():
    layer, x = quantize_model(nn.Linear(8, 8)), torch.ones(2, 8, requires_grad=True)
    F.linear(x, layer.weight).sum().backward()
    torch.testing.assert_close(x.grad, layer.weight.sum(0).expand(2, 8))


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_what_is_exported_and_compiled_reads_floats_too():
    changed = quantize_model(reading())
    expected = run(changed, Inputs((X,)))
    exported = torch.export.export(changed, (X,)).module()
    torch.testing.assert_close(run(exported, Inputs((X,))), expected)
    torch.testing.assert_close(run(torch.compile(changed, backend="eager"), Inputs((X,))), expected)
    traced = torch.jit.trace(changed, (X,), check_trace=False)
    torch.testing.assert_close(run(traced, Inputs((X,))), expected)


def test_a_function_of_torch_func_reads_it():
    changed = quantize_model(reading())
    each = torch.func.vmap(lambda x: F.linear(x, changed.g.weight))(X)
    torch.testing.assert_close(each, F.linear(X, changed.g.dequantized(torch.float32)))


def test_nothing_of_a_read_weight_is_kept():
    layer = quantize_model(nn.Linear(8, 8))
    assert layer.weight is not layer.weight
    layer.weight.sum()
    assert not any(
        tensor.is_floating_point() and tensor.dim() == 2
        for tensor in vars(layer).values()
        if isinstance(tensor, torch.Tensor)
    )
    assert isinstance(layer.weight, Dequantized)
    assert {name: tensor.dtype for name, tensor in layer.state_dict().items()} == {
        "codes": torch.int8, "scale": torch.float32, "bias": torch.float32,
    }  # fmt: skip


def clamp(layer):
    """Where no source of a module's shows that its weight is written to."""
    layer.weight.data.clamp_(-0.1, 0.1)


class Renormalising(nn.Module):
    def __init__(self):
        super().__init__()
        self.part = nn.Sequential(nn.Linear(16, 16))

    def forward(self, x):
        with torch.no_grad():
            clamp(self.part[0])
        return self.part(x)


@pytest.mark.parametrize("name", ["int8-dynamic", "weight-only-8"])
def test_a_model_that_writes_to_a_weight_is_told_which_and_how_to_go_on(name):
    technique = parse_technique(name)
    with pytest.raises(TechniqueError, match=r"'clamp_' writes to the weight of 'part.0'") as error:
        technique.apply(Renormalising())(X)
    assert "exclude=('part.0',)" in str(error.value)
