"""Convolutions on int8: exact products of what is on the grid, where they pay; the others are stored, and say so."""

import copy

import pytest
import torch
from torch import nn

import perfsuite
from perfsuite.models.seeding import seeded
from perfsuite.protocols import Inputs
from perfsuite.techniques.quantization import convolution
from perfsuite.techniques.quantization.convolution import Int8Convolution, StaticInt8Convolution
from perfsuite.techniques.quantization.reading import ReadingProduct
from perfsuite.testing.contract import run

TECHNIQUES = ["int8-dynamic", "int8-dynamic-tensor", "int8-static"]
KINDS = {
    "1d": (lambda: nn.Conv1d(128, 8, 4, padding="same", dilation=2), (3, 128, 11)),
    "2d": (lambda: nn.Conv2d(64, 8, 3, stride=(2, 1), padding=(1, 2)), (3, 64, 7, 9)),
    "no bias": (lambda: nn.Conv2d(512, 8, 1, bias=False), (3, 512, 4, 4)),
    "circular": (lambda: nn.Conv2d(64, 8, 3, padding=1, padding_mode="circular"), (3, 64, 6, 6)),
    "3d": (lambda: nn.Conv3d(64, 8, (2, 2, 3), padding=(0, 1, 0)), (3, 64, 3, 4, 5)),
}


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def converted(kind, technique="int8-dynamic", dtype=torch.float32):
    """The layer, what it became, and an input."""
    make, shape = KINDS[kind]
    with seeded(0):
        layer = make().eval().to(dtype)
    x = drawn(*shape).to(dtype)
    (changed,) = perfsuite.parse_technique(technique).apply(nn.Sequential(layer), data=[x])
    return layer, changed, x


def on_the_grid(layer, x):
    """What the dequantized input gives with the dequantized weight, in float64."""
    padded = layer.padded(x)
    rows = layer.rows(padded)
    seen = ((rows.signed().double() - rows.zero.double()) * rows.scale.double()).view(padded.shape)
    bias = None if layer.bias is None else layer.bias.double()
    return layer.call(seen, layer.dequantized(torch.float64), bias, layer.stride, 0, layer.dilation)


@pytest.mark.parametrize("fast", [True, False], ids=["onednn", "portable"])
@pytest.mark.parametrize("technique", TECHNIQUES)
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_product_of_what_is_on_the_grid(kind, technique, fast, monkeypatch):
    if not fast:
        monkeypatch.setattr(convolution, "convolves", lambda device: False)
    layer, changed, x = converted(kind, technique)
    assert type(changed) is (StaticInt8Convolution if technique == "int8-static" else Int8Convolution)
    with torch.no_grad():
        y, expected = changed(x), layer(x)
        exact = on_the_grid(changed, x)
    assert (y.shape, y.dtype) == (expected.shape, expected.dtype)
    assert y.is_contiguous()
    assert float((y - exact).norm() / exact.norm()) < 1e-6
    assert float((y - expected).norm() / expected.norm()) < 0.02


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_other_dtypes_compute_on_the_same_integers(dtype):
    _, changed, x = converted("2d", dtype=dtype)
    with torch.no_grad():
        y, exact = changed(x), on_the_grid(changed, x)
    assert y.dtype == dtype
    assert float((y.double() - exact).norm() / exact.norm()) < {torch.float64: 1e-12}.get(dtype, 5e-3)


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("technique", ["int8-dynamic", "int8-static"])
def test_an_example_does_not_depend_on_the_others(technique, gradients):
    _, changed, x = converted("2d", technique)
    with torch.set_grad_enabled(gradients):
        together = changed(torch.cat([x, x[:1] * 1e4]))
        assert torch.equal(together[: len(x)], changed(x))
        assert torch.equal(changed(x[1]), changed(x)[1])  # without a batch


@pytest.mark.parametrize("technique", ["int8-dynamic", "int8-static"])
def test_nan_is_seen_in_its_example_alone(technique):
    _, changed, x = converted("2d", technique)
    broken = x.clone()
    broken[1, 5, 3, 3] = torch.nan
    with torch.no_grad():
        y, before = changed(broken), changed(x)
    assert bool(y[1].isnan().all())
    assert torch.equal(y[[0, 2]], before[[0, 2]])


@pytest.mark.parametrize("shape", [(2, 63, 7, 7), (2, 64, 7), (2, 64, 1, 1, 7)])
def test_what_torch_refuses_is_refused_in_its_words(shape):
    layer, changed, _ = converted("2d")
    for module in (layer, changed):
        with torch.no_grad(), pytest.raises(RuntimeError, match=r"Expected|expected|Given"):
            module(drawn(*shape))


def test_an_input_smaller_than_the_kernel_is_refused():
    """oneDNN would answer something."""
    with seeded(0):
        layer = nn.Conv2d(64, 4, 3).eval()
    (changed,) = perfsuite.quantize_model(nn.Sequential(layer))
    for module in (layer, changed):
        with torch.no_grad(), pytest.raises(RuntimeError, match="Kernel size can't be greater"):
            module(drawn(1, 64, 7, 2))


def test_an_empty_batch_gives_an_empty_one():
    layer, changed, x = converted("2d")
    with torch.no_grad():
        assert changed(x[:0]).shape == layer(x[:0]).shape


@pytest.mark.parametrize("name", ["codes", "scale", "bias"])
def test_what_is_written_to_it_counts_at_the_next_call(name):
    _, changed, x = converted("2d")
    with torch.no_grad():
        changed(x)
        getattr(changed, name).data.mul_(0)
        y, exact = changed(x), on_the_grid(changed, x)
    assert float((y - exact).norm()) <= 1e-6 * float(exact.norm())


def net():
    with seeded(0):
        return nn.Sequential(
            nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(),
            nn.Conv2d(64, 64, 3, groups=64), nn.ConvTranspose2d(64, 64, 2), nn.Flatten(), nn.LazyLinear(10),
        ).eval()  # fmt: skip


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_a_network_says_which_layers_compute_on_integers_and_comes_back(technique, tmp_path):
    model, inputs = net(), Inputs((drawn(2, 3, 8, 8),))
    expected = run(model, inputs)
    technique = perfsuite.parse_technique(technique)
    changed = technique.apply(model, data=[inputs])
    assert isinstance(changed[2], Int8Convolution)
    assert all(isinstance(changed[number], ReadingProduct) for number in (0, 5, 6))
    (step,) = perfsuite.provenance(changed)
    assert (step.structure["convolutions"], step.structure["stored"]) == (["2"], ["0", "5", "6"])
    assert "2 of 5 weights in int8" in str(step.coverage)
    assert "3 of 5 weights in int8 computed in float" in str(step.coverage)
    found = run(changed, inputs)
    assert float((found - expected).norm() / expected.norm()) < 0.03
    fresh = net()
    run(fresh, inputs)
    again = perfsuite.load_model(perfsuite.save_model(changed, tmp_path / "saved"), model=fresh)
    assert torch.equal(run(again, inputs), found)
    assert torch.equal(run(copy.deepcopy(changed), inputs), found)


def test_a_shared_weight_stays_one():
    with seeded(0):
        model = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.Conv2d(64, 64, 3, padding=1)).eval()
    model[1].weight = model[0].weight
    changed = perfsuite.quantize_model(model)
    assert changed[0].codes.data_ptr() == changed[1].codes.data_ptr()


def test_it_can_be_exported_and_compiled():
    _, changed, x = converted("2d")
    with torch.no_grad():
        expected = changed(x)
        program = torch.export.export(nn.Sequential(changed), (x,)).module()
        assert torch.allclose(program(x), expected, atol=1e-5)
        compiled = torch.compile(changed, backend="eager", fullgraph=True)
        assert torch.allclose(compiled(x), expected, atol=1e-5)
