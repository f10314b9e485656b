"""SplitAttention does what nn.MultiheadAttention does, also where torch would take its fused kernels."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from perfsuite import Int8Dynamic, Structured
from perfsuite.errors import ModelError
from perfsuite.models.seeding import seeded
from perfsuite.techniques.attention import SplitAttention, split_attention

BATCH, QUERIES, KEYS, HEADS, WIDTH = 3, 4, 5, 2, 8


def attention(bias=True, batch_first=True, kdim=None, vdim=None, dropout=0.0):
    layer = nn.MultiheadAttention(
        WIDTH, HEADS, dropout=dropout, bias=bias, batch_first=batch_first, kdim=kdim, vdim=vdim
    )
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.3)  # biases are born zero
    return layer.eval()


def masked(shape, kind):
    """A random mask that leaves the first key to everybody: softmax over nothing is NaN."""
    hidden = torch.rand(shape) < 0.4
    hidden[..., 0] = False
    return hidden if kind == "bool" else torch.randn(shape).masked_fill(hidden, -torch.inf)


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(b, a, rtol=0, atol=1e-5)


@st.composite
def calls(draw):
    """A layer, and arguments to call it with."""
    batch_first, batched = draw(st.booleans()), draw(st.booleans())
    with seeded(draw(st.integers(0, 2**16))):
        kdim, vdim = draw(st.sampled_from([None, 6])), draw(st.sampled_from([None, 7]))
        layer = attention(draw(st.booleans()), batch_first, kdim, vdim)
        own = kdim is None and vdim is None and draw(st.booleans())  # self-attention: torch's fast path
        query = torch.randn(BATCH, QUERIES, WIDTH)
        key, value = torch.randn(BATCH, KEYS, kdim or WIDTH), torch.randn(BATCH, KEYS, vdim or WIDTH)
        keys = QUERIES if own else KEYS
        kind = draw(st.sampled_from(["bool", "float"]))
        shape = draw(st.sampled_from([None, (QUERIES, keys), ((BATCH if batched else 1) * HEADS, QUERIES, keys)]))
        padding = draw(st.booleans())
        options = {
            "attn_mask": None if shape is None else masked(shape, kind),
            "key_padding_mask": masked((BATCH, keys) if batched else (keys,), kind) if padding else None,
            "need_weights": draw(st.booleans()),
            "average_attn_weights": draw(st.booleans()),
        }
    inputs = [x if batched else x[0] for x in (query, key, value)]
    inputs = [x.transpose(0, 1) if batched and not batch_first else x for x in inputs]
    return layer, [inputs[0]] * 3 if own else inputs, options


@given(calls(), st.booleans())
def test_every_call_gives_what_torch_gives(call, with_grad):
    layer, inputs, options = call
    with torch.set_grad_enabled(with_grad):
        assert_same(layer(*inputs, **options), SplitAttention(layer)(*inputs, **options))


@given(st.integers(0, 2**16), st.booleans(), st.booleans())
def test_gradients_are_those_of_torch(seed, packed, need_weights):
    with seeded(seed):
        layer = attention(kdim=None if packed else 6)
        x, key = torch.randn(2, 4, WIDTH), torch.randn(2, 5, WIDTH if packed else 6)
        value = torch.randn(2, 5, WIDTH)
    split = SplitAttention(layer)
    for model in (layer, split):
        model(x, key, value, need_weights=need_weights)[0].square().sum().backward()
    packed_grad = layer.in_proj_weight.grad.chunk(3) if packed else [layer.q_proj_weight.grad, layer.k_proj_weight.grad]
    torch.testing.assert_close(split.query.weight.grad, packed_grad[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(split.key.weight.grad, packed_grad[1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(split.out_proj.bias.grad, layer.out_proj.bias.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("need_weights", [True, False])
def test_a_row_that_may_attend_to_nothing_does_not_spoil_the_others(need_weights):
    with seeded(0):
        layer, x = attention(), torch.randn(2, 4, WIDTH)
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[2] = True
    one, other = (m(x, x, x, attn_mask=mask, need_weights=need_weights)[0] for m in (layer, SplitAttention(layer)))
    rows = [0, 1, 3]
    torch.testing.assert_close(other[:, rows], one[:, rows], rtol=0, atol=1e-5)
    assert bool(other[:, rows].isfinite().all())


def test_dropout_drops_while_training_only():
    with seeded(0):
        split, x = SplitAttention(attention(dropout=0.5)), torch.randn(2, 4, WIDTH)
    for need_weights in (True, False):
        calm = [split.eval()(x, x, x, need_weights=need_weights)[0] for _ in range(2)]
        wild = [split.train()(x, x, x, need_weights=need_weights)[0] for _ in range(2)]
        assert torch.equal(*calm)
        assert not torch.equal(*wild)


def test_mode_dtype_and_frozen_parameters_are_kept():
    layer = attention().double().train().requires_grad_(False)
    split = SplitAttention(layer)
    assert split.training
    assert {(p.dtype, p.requires_grad) for p in split.parameters()} == {(torch.float64, False)}
    assert not {p.data_ptr() for p in split.parameters()} & {p.data_ptr() for p in layer.parameters()}


@pytest.mark.parametrize("option", ["add_bias_kv", "add_zero_attn"])
def test_what_has_no_place_for_it_is_left_alone(option):
    model = nn.ModuleList([nn.MultiheadAttention(8, 2, **{option: True}), nn.MultiheadAttention(8, 2)])
    split_attention(model)
    assert [type(module) for module in model] == [nn.MultiheadAttention, SplitAttention]


def test_a_subclass_may_compute_something_else_and_stays():
    class Mine(nn.MultiheadAttention):
        pass

    assert type(split_attention(nn.ModuleList([Mine(8, 2)]))[0]) is Mine


def test_one_attention_in_two_places_becomes_one():
    shared = nn.MultiheadAttention(8, 2)
    split = split_attention(nn.ModuleList([shared, shared]))
    assert split[0] is split[1]
    assert isinstance(split_attention(shared), SplitAttention)


def test_a_mask_for_heads_that_are_gone_is_refused():
    with seeded(0):
        layer, x = nn.ModuleList([attention()]), torch.randn(2, 4, WIDTH)
    small = Structured(0.5, 0.5).apply(layer)[0]
    assert small(x, x, x, attn_mask=masked((4, 4), "float"))[0].shape == x.shape
    with pytest.raises(ModelError, match="for 2 heads, and 1 are left"):
        small(x, x, x, attn_mask=masked((2 * HEADS, 4, 4), "float"))


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_the_decoder_layer_of_torch_works_with_it(norm_first, batch_first):
    with seeded(0):
        layer = nn.TransformerDecoderLayer(WIDTH, HEADS, 16, 0.0, norm_first=norm_first, batch_first=batch_first).eval()
        target, memory = torch.randn(3, 3, WIDTH), torch.randn(3, 3, WIDTH)
    causal = nn.Transformer.generate_square_subsequent_mask(3)
    padding = torch.tensor([[False, False, True]] * 3)
    split = split_attention(copy.deepcopy(layer))
    assert sum(isinstance(module, SplitAttention) for module in split.modules()) == 2
    options = {"tgt_mask": causal, "tgt_is_causal": True, "memory_key_padding_mask": padding}
    assert_same([layer(target, memory, **options)], [split(target, memory, **options)])


def test_a_whole_transformer_of_torch_works_with_it():
    with seeded(0):
        model = nn.Transformer(WIDTH, HEADS, 2, 2, 16, 0.0, batch_first=True).eval()
        source, target = torch.randn(2, 5, WIDTH), torch.randn(2, 3, WIDTH)
    causal = model.generate_square_subsequent_mask(3)
    split = split_attention(copy.deepcopy(model))
    with torch.no_grad():
        assert_same([model(source, target, tgt_mask=causal)], [split(source, target, tgt_mask=causal)])


@pytest.mark.parametrize("with_grad", [True, False])
@pytest.mark.parametrize("technique", [None, Int8Dynamic(), Structured(0.0, 0.0)], ids=["split", "int8", "structured"])
def test_the_encoder_of_torch_takes_a_padding_mask_in_eval_mode(with_grad, technique):
    """Once wrong: nn.TransformerEncoder reads self_attn.in_proj_weight on its way to nested tensors."""
    with seeded(0):
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 16, batch_first=True)
        model, x = nn.TransformerEncoder(layer, 2).eval(), torch.randn(2, 5, WIDTH)
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    changed = split_attention(copy.deepcopy(model)) if technique is None else technique.apply(model)
    with torch.set_grad_enabled(with_grad):
        before, after = model(x, src_key_padding_mask=padding), changed(x, src_key_padding_mask=padding)
    atol = 0.1 if isinstance(technique, Int8Dynamic) else 1e-5
    torch.testing.assert_close(after[~padding], before[~padding], rtol=0, atol=atol)
