import copy

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from perfsuite import Int8Dynamic, Magnitude
from perfsuite.errors import TechniqueError
from perfsuite.models.seeding import seeded
from perfsuite.storage import count_stored
from perfsuite.techniques.quantization import kernels
from perfsuite.techniques.quantization.grid import LARGEST, quantize_rows
from perfsuite.techniques.quantization.kernels import blocked_matmul, int8_matmul, kernel_name
from perfsuite.techniques.quantization.layers import Int8Embedding, Int8Linear
from perfsuite.techniques.values import parse_technique
from perfsuite.testing import float_tensors
from perfsuite.testing.strategies import TiedClassifier


@given(float_tensors())
def test_error_is_at_most_half_a_step(x):
    q, scale = quantize_rows(x)
    error = (x.double() - q.double() * scale.double()).abs()
    assert bool((error <= scale.double() / 2 * (1 + 1e-5)).all())


@given(float_tensors())
def test_scales_are_positive_and_finite_and_zero_is_exact(x):
    x[:, 0] = 0
    q, scale = quantize_rows(x)
    assert bool((scale > 0).all())
    assert bool(torch.isfinite(scale).all())
    assert bool((q[:, 0] == 0).all())
    assert int(q.abs().max()) <= LARGEST


@given(float_tensors())
def test_quantizing_what_is_on_the_grid_changes_nothing(x):
    q, scale = quantize_rows(x)
    again, scale_again = quantize_rows(q * scale)
    assume(bool((scale * LARGEST >= torch.finfo(torch.float32).tiny * LARGEST).all()))
    torch.testing.assert_close(again * scale_again, q * scale, rtol=1e-5, atol=0)


@given(st.integers(1, 40), st.integers(1, 2500), st.integers(1, 12), st.integers(0, 2**16))
def test_integer_product_is_exact_on_every_path(rows, depth, columns, seed):
    generator = torch.Generator().manual_seed(seed)
    a = torch.randint(-LARGEST, LARGEST + 1, (rows, depth), generator=generator, dtype=torch.int8)
    b = torch.randint(-LARGEST, LARGEST + 1, (columns, depth), generator=generator, dtype=torch.int8)
    a[0], b[0] = LARGEST, LARGEST  # the largest sum there can be
    expected = a.long() @ b.long().t()
    assert torch.equal(int8_matmul(a, b).long(), expected)
    assert torch.equal(blocked_matmul(a, b).long(), expected)


def test_the_product_is_exact_under_autocast():
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randint(-127, 128, (8, 1024), generator=generator, dtype=torch.int8) for _ in range(2))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(blocked_matmul(a, b).long(), a.long() @ b.long().t())


def test_a_layer_without_outputs():
    layer = Int8Dynamic().apply(nn.Linear(8, 0))
    with torch.no_grad():
        assert layer(torch.ones(3, 8)).shape == (3, 0)


def test_a_product_without_rows_is_empty():
    a, b = torch.empty(0, 8, dtype=torch.int8), torch.ones(3, 8, dtype=torch.int8)
    assert int8_matmul(a, b).shape == (0, 3)


def test_a_kernel_that_saturates_is_not_chosen(monkeypatch):
    """On a CPU without VNNI torch._int_mm gives sums that are too small; the choice is by measurement."""
    honest = torch._int_mm
    monkeypatch.setattr(torch, "_int_mm", lambda a, b: honest(a, b).clamp(-100_000, 100_000))
    monkeypatch.setattr(kernels, "_chosen", {})
    assert kernel_name(torch.device("cpu")) == "blocked"


def test_a_missing_kernel_is_no_crash(monkeypatch):
    def missing(a, b):
        raise NotImplementedError("no engine")

    monkeypatch.setattr(torch, "_int_mm", missing)
    monkeypatch.setattr(kernels, "_chosen", {})
    assert kernel_name(torch.device("cpu")) == "blocked"


def test_both_kernels_give_the_same_layer(monkeypatch):
    with seeded(0):
        model, x = nn.Linear(300, 7), torch.randn(5, 300)
    layer = Int8Dynamic().apply(nn.Sequential(model))
    fast = layer(x)
    monkeypatch.setattr(kernels, "kernel_name", lambda device: "blocked")
    assert torch.equal(fast, layer(x))


@given(st.integers(0, 2**16))
def test_a_row_does_not_depend_on_the_other_rows(seed):
    with seeded(seed):
        layer = Int8Dynamic().apply(nn.Sequential(nn.Linear(24, 9)))
        x, loud = torch.randn(4, 24), torch.randn(1, 24) * 1e6
    alone, in_company = layer(x[:1]), layer(torch.cat([x[:1], loud, x[1:]]))[:1]
    assert torch.equal(alone, in_company)


def test_nan_and_infinite_activations_are_not_hidden():
    layer = Int8Dynamic().apply(nn.Sequential(nn.Linear(4, 2)))
    for bad in (float("nan"), float("inf")):
        x = torch.ones(2, 4)
        x[0, 1] = bad
        y = layer(x)
        assert bool(y[0].isnan().all())
        assert bool(y[1].isfinite().all())


def test_weights_are_plain_int8_tensors():
    model = Int8Dynamic().apply(nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 3)))
    assert isinstance(model[0], Int8Embedding)
    assert isinstance(model[1], Int8Linear)
    dtypes = {name: tensor.dtype for name, tensor in model.state_dict().items()}
    assert dtypes == {
        "0.codes": torch.int8,
        "0.scale": torch.float32,
        "1.codes": torch.int8,
        "1.scale": torch.float32,
        "1.bias": torch.float32,
    }


def test_the_file_holds_one_byte_for_each_weight_and_the_scales():
    with seeded(0):
        model = nn.Sequential(nn.Embedding(1000, 64), nn.Linear(64, 256, bias=False))
    stored = count_stored(Int8Dynamic().apply(model))
    payload = 1000 * 64 + 64 * 256 + 4 * (1000 + 256)
    assert payload <= stored.size_bytes <= payload * 1.01 + 1000


def test_a_shared_weight_is_quantized_once_and_stays_shared():
    tied = Int8Dynamic().apply(TiedClassifier(30, 8))
    assert tied.embedding.codes.data_ptr() == tied.output.codes.data_ptr()


def test_a_module_in_two_places_becomes_one_module_in_both():
    shared = nn.Linear(4, 4)
    model = Int8Dynamic().apply(nn.Sequential(shared, nn.ReLU(), shared))
    assert model[0] is model[2]
    assert isinstance(model[0], Int8Linear)


def test_a_model_that_is_one_linear_layer():
    assert isinstance(Int8Dynamic().apply(nn.Linear(3, 2)), Int8Linear)


@pytest.mark.parametrize("batch_first", [True, False])
def test_torchs_own_encoder_survives(batch_first):
    """quantize_dynamic of torch.ao crashes here in eval mode: the fused fast path reads weight.device."""
    with seeded(0):
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=batch_first)
        model, x = nn.TransformerEncoder(layer, 2).eval(), torch.randn(3, 5, 32)
    quantized = Int8Dynamic().apply(model)
    with torch.no_grad():
        before, after = model(x), quantized(x)
    assert float((before - after).norm() / before.norm()) < 0.02
    assert sum(isinstance(module, Int8Linear) for module in quantized.modules()) == 12


def test_quantizing_twice_and_quantizing_nothing_are_refused():
    once = Int8Dynamic().apply(nn.Linear(3, 2))
    for model in (once, nn.ReLU()):
        with pytest.raises(TechniqueError, match=r"quantized already|found no float weights"):
            Int8Dynamic().apply(model)


def test_pruning_after_quantizing_is_refused():
    with pytest.raises(TechniqueError, match="found no float weight"):
        Magnitude(0.5).apply(Int8Dynamic().apply(nn.Linear(3, 2)))


def test_zeros_of_pruning_survive_quantization():
    with seeded(0):
        pruned = Magnitude(0.5).apply(nn.Linear(64, 64))
    quantized = Int8Dynamic().apply(pruned)
    assert bool((quantized.codes[pruned.weight == 0] == 0).all())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_float_dtypes_keep_theirs(dtype):
    with seeded(0):
        model = nn.Sequential(nn.Linear(16, 8)).to(dtype)
        x = torch.randn(2, 16).to(dtype)
    quantized = Int8Dynamic().apply(copy.deepcopy(model))
    assert quantized(x).dtype is dtype
    assert float((quantized(x) - model(x)).detach().norm() / model(x).detach().norm()) < 0.05


def test_an_embedding_that_renormalises_is_left_alone():
    model = nn.Sequential(nn.Embedding(5, 4, max_norm=1.0), nn.Linear(4, 4))
    assert isinstance(Int8Dynamic().apply(model)[0], nn.Embedding)


def write_weight(layer):
    layer.codes.data.copy_(-layer.codes)


def write_row(layer):
    layer.codes.data[0] = 7


def write_scale(layer):
    layer.scale.data.mul_(2)


def write_bias(layer):
    layer.bias.data.add_(1)


def load(layer):
    layer.load_state_dict({name: value.flip(0) for name, value in layer.state_dict().items()})


def step(layer):
    layer.bias.grad = torch.ones_like(layer.bias)
    torch.optim.SGD([layer.bias], lr=0.5).step()


def replace(layer):
    layer.codes = layer.codes.flip(0)


@pytest.mark.parametrize("write", [write_weight, write_row, write_scale, write_bias, load, step, replace])
@pytest.mark.parametrize("name", ["int8-dynamic", "int8-dynamic-tensor", "int8-static"])
@pytest.mark.parametrize("gradients", [False, True])
def test_what_was_written_to_a_layer_counts_at_its_next_call(name, write, gradients):
    with seeded(0):
        x = torch.randn(9, 32)
        layer = parse_technique(name).apply(nn.Linear(32, 24), data=[x])
    with torch.set_grad_enabled(gradients):
        before = layer(x)
        write(layer)
        after = layer(x)
        assert torch.equal(after, copy.deepcopy(layer)(x))  # which has nothing of before
        assert not torch.allclose(after, before, atol=1e-3)


@pytest.mark.parametrize("field", ["codes", "scale", "bias"])
def test_what_was_written_to_layers_of_one_input_counts_at_their_next_call(field):
    with seeded(0):
        layer = nn.TransformerEncoderLayer(32, 4, 48, batch_first=True).eval()
        model = parse_technique("int8-dynamic").apply(layer)
        x = torch.randn(2, 5, 32)
    with torch.no_grad():
        before = model(x)
        getattr(model.self_attn.value, field).data.neg_().sub_(1)
        after = model(x)
        assert torch.equal(after, copy.deepcopy(model)(x))
        assert not torch.allclose(after, before, atol=1e-3)


def test_packed_weights_are_kept_while_nobody_writes():
    with seeded(0):
        layer, x = parse_technique("int8-dynamic").apply(nn.Linear(32, 24)), torch.randn(9, 32)
    with torch.no_grad():
        layer(x)
        first = layer.operands()
        layer(x)
        copy.deepcopy(layer)(x)
        layer.codes.float()
        layer.weight.float()
        assert layer.operands() is first
