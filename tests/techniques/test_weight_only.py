import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.pytorch_utils import Conv1D

from perfsuite import Int8Dynamic, WeightOnly
from perfsuite.errors import PerfsuiteError, UsageError
from perfsuite.measure.outputs import fidelity
from perfsuite.models.seeding import seeded
from perfsuite.protocols import Inputs
from perfsuite.storage import count_stored, load, save
from perfsuite.techniques.quantization.layers import Int8Embedding, Int8Linear
from perfsuite.techniques.quantization.packing import PackedLinear, pack, quantize_groups, to_bfloat16, unpack
from perfsuite.techniques.values import parse_technique
from perfsuite.testing import float_tensors
from perfsuite.testing.contract import run

BITS = st.integers(2, 8)


@pytest.fixture(scope="module")
def gpt2():
    with seeded(0):
        config = GPT2Config(
            vocab_size=60, n_positions=16, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
        )
        return GPT2LMHeadModel(config).eval()


def packed(weight, bits, group_size=64):
    return PackedLinear(quantize_groups(weight, bits, group_size), weight.shape[1], bits, group_size, None)


@given(BITS, st.integers(1, 5), st.integers(1, 41), st.integers(0, 2**16))
def test_codes_come_back_as_they_were(bits, rows, length, seed):
    codes = torch.randint(0, 2**bits, (rows, length), generator=torch.Generator().manual_seed(seed))
    stored = pack(codes, bits)
    assert stored.dtype is torch.uint8
    assert stored.shape == (rows, -(-length // 8) * bits)
    assert torch.equal(unpack(stored, bits, length), codes)


@pytest.mark.parametrize("bits", range(2, 9))
def test_the_lowest_and_the_highest_code_come_back(bits):
    codes = torch.tensor([[0, 2**bits - 1] * 9])[:, :17]
    assert torch.equal(unpack(pack(codes, bits), bits, 17), codes)


@given(float_tensors(), BITS, st.integers(1, 50))
def test_weights_are_within_half_a_step_at_any_width_and_group(x, bits, group_size):
    layer = packed(x, bits, group_size)
    scales = layer.scales.double().repeat_interleave(group_size, dim=1)[:, : x.shape[1]]
    assert bool(((layer.dequantized(torch.float64) - x.double()).abs() <= scales * 0.5001).all())
    assert bool((layer.dequantized(torch.float64)[x == 0] == 0).all())


@pytest.mark.parametrize("bits", [-1, 0, 1, 9, 16, 4.5])
def test_bits_that_cannot_be_packed_are_refused(bits):
    with pytest.raises(UsageError, match="bits are not possible"):
        WeightOnly(bits)


@pytest.mark.parametrize("name", ["weight-only-1", "weight-only-9", "weight-only-four", "weight-only-4-g0"])
def test_bad_names_are_refused(name):
    with pytest.raises(UsageError):
        parse_technique(name)


@pytest.mark.parametrize("group_size", [0, -1])
def test_groups_of_nothing_are_refused(group_size):
    with pytest.raises(UsageError, match="group_size"):
        WeightOnly(4, group_size)


@pytest.mark.parametrize("bits_and_group", [(4.0, 64), (4, 1.5)])
def test_bits_and_groups_that_are_no_integers_are_refused_when_they_are_given(bits_and_group):
    with pytest.raises(UsageError):
        WeightOnly(*bits_and_group)


def test_weights_near_the_largest_float_do_not_become_nan():
    huge = torch.full((2, 4), torch.finfo(torch.float32).max)
    for bits in (2, 8):
        assert bool(packed(huge, bits).dequantized(torch.float64).isfinite().all())


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_the_file_holds_the_bits_and_the_scales(bits):
    with seeded(0):
        model = nn.Linear(512, 256, bias=False)
    payload = 512 * 256 * bits // 8 + 256 * (512 // 64) * 2
    size = count_stored(WeightOnly(bits).apply(model)).size_bytes
    assert payload <= size <= payload * 1.01 + 500
    if bits == 4:
        assert count_stored(model).size_bytes / size > 7


@pytest.mark.parametrize("bits", [3, 4, 8])
def test_half_precision_models_keep_their_dtype(bits):
    with seeded(0):
        model = nn.Sequential(nn.Embedding(20, 48), nn.Linear(48, 33)).half().eval()
    small = WeightOnly(bits, 16).apply(model)
    ids = Inputs((torch.arange(20),))
    before, after = run(model, ids), run(small, ids)
    assert after.dtype is torch.float16
    assert fidelity(before.double(), after.double())["sqnr"] > 6 * bits - 10


def test_groups_wider_than_the_layer_and_of_one_weight():
    with seeded(0):
        weight = torch.randn(5, 7)
    assert packed(weight, 8, 1000).scales.shape == (5, 1)
    torch.testing.assert_close(packed(weight, 4, 1).weight, weight, rtol=2**-6, atol=0)


def test_conv1d_is_packed_as_the_linear_layer_that_it_is():
    with seeded(0):
        turned = Conv1D(12, 20)
        nn.init.normal_(turned.weight)
        plain = nn.Linear(20, 12)
        plain.weight, plain.bias = nn.Parameter(turned.weight.t().contiguous()), turned.bias
        x = torch.randn(3, 20)
    one, other = (WeightOnly(4, 8).apply(nn.Sequential(layer)) for layer in (turned, plain))
    assert isinstance(one[0], PackedLinear)
    assert torch.equal(one[0].codes, other[0].codes)
    assert torch.equal(one(x), other(x))


@pytest.mark.parametrize("technique", [WeightOnly(4, 16), WeightOnly(8, 8), Int8Dynamic()], ids=lambda t: t.name)
def test_gpt2_with_tied_embeddings(gpt2, technique, tmp_path):
    inputs = Inputs(kwargs={"input_ids": torch.arange(14).reshape(2, 7)})
    small = technique.apply(gpt2)
    table, head = small.transformer.wte, small.lm_head
    assert isinstance(table, Int8Embedding)
    assert isinstance(head, Int8Linear)
    assert table.codes.data_ptr() == head.codes.data_ptr()
    assert not any(isinstance(module, Conv1D) for module in small.modules())
    before, after = run(gpt2, inputs), run(small, inputs)
    assert fidelity(before.double(), after.double())["sqnr"] > 20
    again = load(save(small, tmp_path / "saved"))
    assert torch.equal(run(again, inputs), after)
    assert count_stored(small).size_bytes < count_stored(gpt2).size_bytes / 2


@pytest.mark.parametrize("technique", [WeightOnly(4, 16), Int8Dynamic()], ids=lambda t: t.name)
def test_gpt2_with_tied_embeddings_survives_save_pretrained(gpt2, technique, tmp_path):
    inputs = Inputs(kwargs={"input_ids": torch.arange(14).reshape(2, 7)})
    small = technique.apply(gpt2)
    small.save_pretrained(tmp_path)
    assert torch.equal(run(load(tmp_path), inputs), run(small, inputs))


def test_embeddings_that_stay_keep_the_tied_head_in_float(gpt2):
    small = WeightOnly(4, embeddings=False).apply(gpt2)
    assert type(small.transformer.wte) is nn.Embedding
    assert small.lm_head.weight is small.transformer.wte.weight
    assert isinstance(small.transformer.h[0].attn.c_attn, PackedLinear)


def test_ids_that_do_not_exist_are_refused_as_torch_refuses_them():
    """Padding ids of -1 or -100 must not read the last rows in silence."""
    table = nn.Embedding(10, 4)
    small = WeightOnly(4).apply(nn.Sequential(copy.deepcopy(table)))
    for ids in (torch.tensor([10]), torch.tensor([-1])):
        for model in (table, small):
            with pytest.raises((IndexError, PerfsuiteError)):
                model(ids)


def test_unpacking_is_differentiable_for_what_comes_before():
    """A frozen packed layer passes the gradient of its dequantized weights."""
    with seeded(0):
        layer, x = WeightOnly(4, 8).apply(nn.Linear(16, 5)), torch.randn(3, 16, requires_grad=True)
    layer(x).sum().backward()
    torch.testing.assert_close(x.grad, layer.weight.sum(dim=0).expand(3, 16))


def test_arithmetic_rounds_to_bfloat16_as_a_cast_does():
    generator = torch.Generator().manual_seed(0)
    ends = [torch.finfo(torch.float32).tiny, torch.finfo(torch.bfloat16).max, 1 + 2**-8, 1 + 3 * 2**-8]  # and ties
    drawn = torch.rand(10_000, generator=generator) * 10.0 ** torch.randint(-36, 38, (10_000,), generator=generator)
    x = torch.cat([torch.tensor(ends), drawn]).clamp(ends[0], ends[1])
    assert torch.equal(to_bfloat16(x), x.to(torch.bfloat16))
