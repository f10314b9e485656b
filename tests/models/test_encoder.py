import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from perfsuite.errors import UnavailableError, UnknownNameError, UsageError
from perfsuite.models.devices import available_devices, get_device, resolve_device
from perfsuite.models.encoder import (
    EncoderConfig,
    RotaryPosition,
    SinusoidalPosition,
    TransformerEncoder,
    additive_mask,
    create_test_transformer,
    mean_pool,
)
from perfsuite.models.seeding import seeded


def as_torch(model: TransformerEncoder) -> nn.TransformerEncoder:
    """torch's own encoder with our weights."""
    c = model.config
    layer = nn.TransformerEncoderLayer(
        c.d_model, c.num_heads, c.d_ff, c.dropout, c.activation, batch_first=True, norm_first=c.norm_first
    )
    norm = nn.LayerNorm(c.d_model) if c.norm_first else None
    theirs = nn.TransformerEncoder(layer, c.num_layers, norm=norm, enable_nested_tensor=False)
    if norm is not None:
        norm.load_state_dict(model.norm.state_dict())
    for mine, other in zip(model.layers, theirs.layers, strict=True):
        attention = mine.attention
        projections = (attention.query, attention.key, attention.value)
        with torch.no_grad():
            other.self_attn.in_proj_weight.copy_(torch.cat([p.weight for p in projections]))
            other.self_attn.in_proj_bias.copy_(torch.cat([p.bias for p in projections]))
        other.self_attn.out_proj.load_state_dict(attention.output.state_dict())
        other.linear1.load_state_dict(mine.feed_forward.expand.state_dict())
        other.linear2.load_state_dict(mine.feed_forward.contract.state_dict())
        other.norm1.load_state_dict(mine.attention_norm.state_dict())
        other.norm2.load_state_dict(mine.feed_forward_norm.state_dict())
    return theirs


@given(
    heads=st.sampled_from([1, 2, 4]),
    layers=st.integers(1, 3),
    norm_first=st.booleans(),
    activation=st.sampled_from(["relu", "gelu"]),
    padded=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_equals_torchs_own_encoder_with_the_same_weights(heads, layers, norm_first, activation, padded, seed):
    with seeded(seed):
        model = TransformerEncoder(
            30, 16, heads, layers, 24, max_seq_length=8, norm_first=norm_first, activation=activation
        )
        tokens = torch.randint(0, 30, (3, 7))
    model, theirs = model.double().eval(), as_torch(model).double().eval()
    mask = torch.zeros(3, 7, dtype=torch.bool)
    mask[1, 4:] = padded
    with torch.no_grad():
        embedded = model.embedding(tokens) * 4 + model.position(7)
        expected = theirs(embedded, src_key_padding_mask=mask if padded else None)
        found = model(tokens, mask if padded else None)
    torch.testing.assert_close(found[~mask], expected[~mask], rtol=1e-10, atol=1e-10)


def test_the_documented_sizes():
    small, medium = create_test_transformer("small"), create_test_transformer("medium")
    assert small.config == EncoderConfig(10_000, 128, 4, 2, 512)
    assert medium.config == EncoderConfig(30_000, 512, 8, 4, 1024)
    with pytest.raises(UsageError, match="unknown size 'large'"):
        create_test_transformer("large")


def test_the_documented_construction():
    model = TransformerEncoder(
        vocab_size=30000, d_model=512, num_heads=8, num_layers=4, d_ff=1024, dropout=0.1, max_seq_length=256,
        positional_encoding="sinusoidal",
    )  # fmt: skip
    assert model(torch.zeros(2, 5, dtype=torch.long)).shape == (2, 5, 512)


@pytest.mark.parametrize("positions", ["sinusoidal", "learned", "rotary"])
def test_padding_changes_nothing(positions):
    with seeded(0):
        model = TransformerEncoder(20, 8, 2, 2, 16, positional_encoding=positions, num_classes=3).eval()
        short = torch.randint(0, 20, (1, 4))
    padded = torch.cat([short, torch.full((1, 3), 7)], dim=1)
    mask = torch.tensor([[False] * 4 + [True] * 3])
    with torch.no_grad():
        torch.testing.assert_close(model(padded, mask), model(short), rtol=1e-5, atol=1e-6)
        assert bool(model(padded, torch.ones(1, 7, dtype=torch.bool)).isfinite().all())


@pytest.mark.parametrize("positions", ["sinusoidal", "learned", "rotary"])
def test_positions_matter(positions):
    with seeded(0):
        model = TransformerEncoder(20, 8, 2, 1, 16, positional_encoding=positions, num_classes=3).eval()
    with torch.no_grad():
        assert not torch.allclose(model(torch.tensor([[1, 2, 3]])), model(torch.tensor([[3, 2, 1]])))


def test_sinusoidal_table_is_the_papers():
    table = SinusoidalPosition(6, 10).table
    assert table[3, 0] == pytest.approx(torch.sin(torch.tensor(3.0)).item())
    assert table[3, 3] == pytest.approx(torch.cos(torch.tensor(3.0 / 10_000 ** (2 / 6))).item())
    assert SinusoidalPosition(5, 4).table.shape == (4, 5)


@given(st.integers(0, 5), st.integers(0, 5))
def test_rotary_products_depend_on_the_distance_only(first, shift):
    rotary = RotaryPosition(8, 16)
    with seeded(0):
        q, k = torch.randn(8), torch.randn(8)
    turned_q, turned_k = (rotary(x.expand(1, 1, 16, 8))[0, 0] for x in (q, k))
    near = turned_q[first] @ turned_k[first + shift]
    far = turned_q[first + 5] @ turned_k[first + 5 + shift]
    torch.testing.assert_close(near, far, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(turned_q.norm(dim=-1), q.norm().expand(16))


def test_masks_use_the_dtypes_lowest_number():
    mask = additive_mask(torch.tensor([[False, True]]), torch.float16)
    assert mask.shape == (1, 1, 1, 2)
    assert mask.flatten().tolist() == [0.0, torch.finfo(torch.float16).min]


def test_mean_pool_leaves_padding_out():
    x = torch.tensor([[[1.0], [3.0], [100.0]]])
    assert mean_pool(x, torch.tensor([[False, False, True]])).item() == 2.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_heads": 3}, "cannot be divided among 3 heads"),
        ({"d_ff": 0}, "d_ff is 0"),
        ({"positional_encoding": "absolute"}, "unknown positional_encoding"),
        ({"activation": "tanh"}, "unknown activation"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"d_model": 6, "num_heads": 2, "positional_encoding": "rotary"}, "even head size"),
    ],
)
def test_impossible_configs_are_refused(change, message):
    with pytest.raises(UsageError, match=message):
        TransformerEncoder(**{"vocab_size": 5, "d_model": 8, "num_heads": 2, "num_layers": 1, "d_ff": 8, **change})


def test_too_many_tokens_are_refused():
    model = TransformerEncoder(5, 4, 1, 1, 4, max_seq_length=3)
    with pytest.raises(UsageError, match="4 tokens are more than max_seq_length 3"):
        model(torch.zeros(1, 4, dtype=torch.long))


def test_dropout_acts_only_while_training():
    with seeded(0):
        model = TransformerEncoder(5, 8, 2, 1, 8, dropout=0.5)
        tokens = torch.zeros(1, 4, dtype=torch.long)
        assert not torch.equal(model(tokens), model(tokens))
        model.eval()
        assert torch.equal(model(tokens), model(tokens))


def test_devices():
    assert available_devices()[0] == "cpu"
    assert get_device().type in available_devices()
    assert resolve_device("cpu").type == "cpu"
    with pytest.raises(UnknownNameError, match="did you mean 'cuda'"):
        resolve_device("cudda")
    absent = next(kind for kind in ("mps", "cuda") if kind not in available_devices())
    with pytest.raises(UnavailableError, match=f"device '{absent}' is not on this machine"):
        resolve_device(absent)


def test_seeding_leaves_the_callers_randomness_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    with seeded(1):
        torch.rand(3)
    assert torch.equal(torch.rand(1), expected)
    with pytest.raises(UsageError, match="seed -1 is out of range"), seeded(-1):
        pass
