"""Models that no architecture describes: what is cut equals what is masked, in float64, and loads again."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import (
    BertConfig,
    BertModel,
    EfficientNetConfig,
    EfficientNetForImageClassification,
    MobileNetV2Config,
    MobileNetV2ForImageClassification,
    ResNetConfig,
    ResNetModel,
    Swinv2Config,
    Swinv2Model,
)

from perfsuite import Structured
from perfsuite.models.seeding import seeded
from perfsuite.protocols import Inputs
from perfsuite.storage import load, save
from perfsuite.techniques.attention import split_attention
from perfsuite.techniques.pruning.coupling.coupled import Coupled
from perfsuite.techniques.pruning.coupling.find import follow
from perfsuite.techniques.pruning.coupling.proof import mask
from perfsuite.techniques.pruning.groups import described, find_groups
from perfsuite.techniques.pruning.removal import largest
from perfsuite.techniques.recorded import provenance
from perfsuite.techniques.values import parse_technique
from perfsuite.testing.contract import run
from perfsuite.testing.kept import mask_units

HALF = Structured(0.5, 0.5)


def warm(model):
    """In float64, with statistics, slopes and biases that are neither 0 nor 1, so that a wrong one shows."""
    with seeded(1), torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if tensor.dim() == 1 and tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5)
            elif name.endswith("weight"):
                tensor.add_(torch.randn_like(tensor), alpha=0.1)
    return model.double().eval()


def masked(model, inputs):
    """The model with the weaker half of each row of units masked where it is read, and how many of each row stay."""
    full = split_attention(copy.deepcopy(model))
    found = follow(full, inputs, described(full)).groups
    plan = []
    for units in found:
        left = units.count - round(0.5 * units.count)
        plan.append((units, Coupled(full, units).magnitude().topk(left).indices.sort().values))
    known = find_groups(full) if described(full) else []
    stay = [largest(group.magnitude(), group.count - round(0.5 * group.count)) for group in known]
    with torch.no_grad():
        for group, kept in zip(known, stay, strict=True):
            mask_units(group, kept)
    mask(full, plan)
    return full, {units.name: len(kept) for units, kept in plan}


def check(build, x, left, tmp_path):
    """The half model equals the masked one on each input, has as many units left as said, and loads again."""
    with seeded(0):
        model, fresh = warm(build()), build().double()
    inputs = [each if isinstance(each, Inputs) else Inputs.of(each) for each in (x if isinstance(x, list) else [x])]
    small = HALF.apply(model, data=inputs[:1])
    full, counts = masked(model, inputs[0])
    assert counts == left
    kept = provenance(small)[-1].structure["kept"]
    assert {name: n for kind in kept.values() for name, n in kind.items() if name in left} == left
    again = load(save(small, tmp_path / "small"), model=fresh)
    for each in inputs:
        wanted, found = run(full, each), run(small, each)
        assert float((wanted - run(model, each)).abs().max()) > 1e-6 * float(wanted.abs().max())  # it matters
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9 * float(wanted.abs().max()))
        assert torch.equal(run(again, each), found)
    return small


def images(channels=3, size=16):
    return torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def ids(length=6):
    return torch.randint(0, 50, (2, length), generator=torch.Generator().manual_seed(0))


# convolutions


def resnet():
    return ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[16, 32], depths=[2, 1], layer_type="bottleneck"))


def test_a_resnet_loses_channels_inside_of_bottlenecks_and_across_its_residuals(tmp_path):
    inner = {f"encoder.stages.0.layers.{i}.layer.{j}.convolution": 2 for i in range(2) for j in range(2)}
    inner |= {f"encoder.stages.1.layers.0.layer.{j}.convolution": 4 for j in range(2)}
    across = {"embedder.embedder.convolution": 4, "encoder.stages.0.layers.0.shortcut.convolution": 8}
    small = check(resnet, Inputs(kwargs={"pixel_values": images(size=32)}), inner | across, tmp_path)
    layer = small.encoder.stages[0].layers[1].layer
    assert [(c.convolution.in_channels, c.convolution.out_channels) for c in layer] == [(8, 2), (2, 2), (2, 8)]
    assert layer[0].normalization.num_features == 2


def mobilenet():
    return MobileNetV2ForImageClassification(MobileNetV2Config(depth_multiplier=0.125, image_size=32, num_labels=3))


def efficientnet():
    few = {"kernel_sizes": [3, 3], "in_channels": [32, 16], "out_channels": [16, 24], "strides": [1, 2]}
    few |= {"num_block_repeats": [1, 2], "expand_ratios": [1, 6], "depthwise_padding": []}
    sizes = {"image_size": 32, "width_coefficient": 0.125, "depth_coefficient": 0.1, "hidden_dim": 160}
    config = EfficientNetConfig(num_labels=3, **few, **sizes)
    return EfficientNetForImageClassification(config)


@pytest.mark.parametrize("build", [mobilenet, efficientnet])
def test_depthwise_convolutions_and_squeeze_excite_go_along(build, tmp_path):
    with seeded(0):
        model = warm(build())
    inputs = Inputs(kwargs={"pixel_values": images(size=32)})
    left = masked(model, inputs)[1]
    small = check(build, inputs, left, tmp_path)
    sizes = [sum(p.numel() for p in m.parameters()) for m in (model, small)]
    assert sizes[0] > 1.7 * sizes[1]
    depthwise = [m for m in small.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    assert depthwise
    assert all(m.groups == m.in_channels == m.out_channels == m.weight.shape[0] for m in depthwise)


class Dense(nn.Module):
    """DenseNet: each layer reads all before it."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(8 + 4 * i) for i in range(3))
        self.layers = nn.ModuleList(nn.Conv2d(8 + 4 * i, 4, 3, padding=1) for i in range(3))
        self.transition = nn.Sequential(nn.BatchNorm2d(20), nn.ReLU(), nn.Conv2d(20, 6, 1), nn.AvgPool2d(2))
        self.out = nn.Linear(6, 5)

    def forward(self, x):
        features = [self.stem(x)]
        for norm, layer in zip(self.norms, self.layers, strict=True):
            features.append(layer(F.relu(norm(torch.cat(features, 1)))))
        return self.out(self.transition(torch.cat(features, 1)).mean((2, 3)))


def test_a_densenet_loses_channels_wherever_they_are_read(tmp_path):
    left = {"stem": 4, "layers.0": 2, "layers.1": 2, "layers.2": 2, "transition.2": 3}
    small = check(Dense, [images(), images(size=20)], left, tmp_path)
    assert [norm.num_features for norm in small.norms] == [4, 6, 8]


class Grouped(nn.Module):
    """Grouped convolutions, GroupNorm and a bottleneck with residual: the unit is a group."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3, groups=4, padding=1), nn.Conv2d(16, 12, 1)
        self.norm, self.last = nn.GroupNorm(4, 16), nn.Conv2d(12, 2, 1)

    def forward(self, x):
        x = F.relu(self.a(x))
        return self.last(F.relu(self.c(F.relu(self.norm(self.b(x)) + x))))


def test_groups_of_convolutions_and_norms_go_as_a_whole(tmp_path):
    small = check(Grouped, [images(), images(size=20)], {"a": 2, "c": 6}, tmp_path)
    assert (small.b.groups, small.b.in_channels, small.b.out_channels) == (2, 8, 8)
    assert (small.norm.num_groups, small.norm.num_channels) == (2, 8)


class Flattened(nn.Module):
    def __init__(self, flatten):
        super().__init__()
        self.flatten, self.a, self.pool = flatten, nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(2)
        self.b, self.c = nn.Linear(32, 10), nn.Linear(10, 3)

    def forward(self, x):
        return self.c(F.relu(self.b(self.flatten(self.pool(F.relu(self.a(x))) * 1.0))))


FLATTEN = {
    "view": lambda x: x.view(x.size(0), -1),
    "reshape": lambda x: x.reshape(x.shape[0], -1),
    "flatten": lambda x: torch.flatten(x, start_dim=1),
    "permuted": lambda x: x.permute(0, 2, 3, 1).reshape(x.shape[0], -1),
}


@pytest.mark.parametrize("flatten", FLATTEN.values(), ids=FLATTEN)
def test_each_way_to_flatten_is_followed(flatten, tmp_path):
    check(lambda: Flattened(flatten), images(), {"a": 4, "b": 5}, tmp_path)


def test_a_shape_that_stands_in_the_code_is_refused_and_named():
    with seeded(0):
        model = warm(Flattened(lambda x: x.view(-1, 32)))
    small = HALF.apply(model, data=[images()])
    assert provenance(small)[0].structure["coupled"]["refused"] == ["a"]
    assert provenance(small)[0].structure["kept"] == {"units": {"b": 5}}


class SuperResolution(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 16, 3), nn.Conv2d(4, 3, 3)
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x):
        return self.c(F.relu(self.shuffle(self.b(F.relu(self.a(x))))))


def test_channels_that_a_pixel_shuffle_makes_are_units(tmp_path):
    assert check(SuperResolution, [images(), images(size=9)], {"a": 4, "b": 2}, tmp_path).b.out_channels == 8


def autoencoder():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 64, 6), nn.Linear(6, 12 * 16), nn.ReLU(),
        nn.Unflatten(1, (12, 4, 4)), nn.ConvTranspose2d(12, 10, 4, 2, 1), nn.BatchNorm2d(10), nn.ReLU(),
        nn.ConvTranspose2d(10, 3, 4, 2, 1),
    )  # fmt: skip


def test_an_autoencoder_with_transposed_convolutions(tmp_path):
    small = check(autoencoder, images(), {"0": 4, "3": 3, "4": 6, "7": 5}, tmp_path)
    assert small[6].unflattened_size == (6, 4, 4)
    assert (small[7].in_channels, small[7].out_channels) == (6, 5)


# transformers of one's own


class Attention(nn.Module):
    """Query, key and value from one layer."""

    def __init__(self, heads=4, dim=8):
        super().__init__()
        self.heads, self.dim = heads, dim
        self.qkv, self.out = nn.Linear(16, 3 * heads * dim), nn.Linear(heads * dim, 16)

    def forward(self, x):
        b, t, _ = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, self.dim).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y.transpose(1, 2).reshape(b, t, self.heads * self.dim))


class Chunked(Attention):
    def forward(self, x):
        b, t, _ = x.shape
        q, k, v = (y.view(b, t, self.heads, self.dim).transpose(1, 2) for y in self.qkv(x).chunk(3, dim=-1))
        weights = (q @ k.transpose(-2, -1) * self.dim**-0.5).softmax(-1)
        return self.out((weights @ v).transpose(1, 2).flatten(2))


class Ambiguous(Chunked):
    """As many heads as numbers in each: only the proof can tell which attribute counts what."""

    def __init__(self):
        super().__init__(4, 4)


class Turned(Attention):
    """Rotary positions, a norm over each head, and keys that two query heads share."""

    def __init__(self):
        super().__init__()
        self.key_value, self.norm = nn.Linear(16, 2 * 2 * self.dim), nn.LayerNorm(self.dim)
        self.qkv = nn.Linear(16, self.heads * self.dim)

    def forward(self, x):
        b, t, _ = x.shape
        angles = torch.arange(t)[:, None] / 10.0 ** torch.arange(self.dim // 2)
        k, v = self.key_value(x).view(b, t, -1, self.dim).transpose(1, 2).chunk(2, dim=1)
        q = turn(self.norm(self.qkv(x).view(b, t, -1, self.dim).transpose(1, 2)), angles.to(x))
        y = F.scaled_dot_product_attention(q, turn(k, angles.to(x)), v, enable_gqa=True)
        return self.out(y.transpose(1, 2).flatten(2))


def turn(x, angles):
    one, other = x.chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([one * cos - other * sin, one * sin + other * cos], dim=-1)


class Biased(Chunked):
    """A learned bias for each head, and a mask that hides what comes later; attributes that count something else."""

    def __init__(self):
        super().__init__()
        self.bias, self.layers, self.batches, self.width = nn.Embedding(9, self.heads), 4, 2, 16

    def forward(self, x):
        b, t, _ = x.shape
        q, k, v = self.qkv(x).split(self.heads * self.dim, dim=-1)
        q, k, v = (y.view(b, t, -1, self.dim).transpose(1, 2) for y in (q, k, v))
        places = (torch.arange(t)[:, None] - torch.arange(t)).clamp(-4, 4) + 4
        bias = self.bias(places).permute(2, 0, 1)[None]
        later = torch.ones(t, t, dtype=torch.bool).triu(1)
        mask = x.new_zeros(1, 1, t, t).masked_fill(later, -1e9)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias + mask)
        return self.out(y.transpose(1, 2).flatten(2))


class Torchs(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x):
        return self.qkv(x, x, x, need_weights=False)[0]


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.gate, self.down = nn.Linear(16, 24), nn.Linear(16, 24), nn.Linear(24, 16)

    def forward(self, x):
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Halves(nn.Module):
    """A gated unit whose two halves come from one layer."""

    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(16, 48), nn.Linear(24, 16)

    def forward(self, x):
        return self.down(F.glu(self.up(x)))


class Block(nn.Module):
    def __init__(self, attention, feed_forward):
        super().__init__()
        self.attention, self.feed_forward = attention(), feed_forward()
        self.norms = nn.ModuleList([nn.LayerNorm(16), nn.LayerNorm(16)])

    def forward(self, x):
        x = x + self.attention(self.norms[0](x))
        return x + self.feed_forward(self.norms[1](x))


class Encoder(nn.Module):
    def __init__(self, attention, feed_forward=Gated):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(50, 16), nn.Parameter(torch.randn(1, 32, 16))
        self.blocks = nn.ModuleList(Block(attention, feed_forward) for _ in range(2))
        self.head = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 20), nn.GELU(), nn.Linear(20, 3))

    def forward(self, ids):
        x = self.tokens(ids) + self.positions[:, : ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(1))


UNITS = {"blocks.0.feed_forward.up": 12, "blocks.1.feed_forward.up": 12, "head.1": 10}


@pytest.mark.parametrize("feed_forward", [Gated, Halves])
@pytest.mark.parametrize("attention", [Attention, Chunked, Ambiguous])
def test_an_encoder_of_ones_own_loses_heads_and_units(attention, feed_forward, tmp_path):
    left = UNITS | {f"blocks.{i}.attention.qkv": 2 for i in range(2)}
    small = check(lambda: Encoder(attention, feed_forward), [ids(), ids(9)], left, tmp_path)
    for block in small.blocks:
        assert (block.attention.heads, block.attention.dim) == (2, attention().dim)
        assert block.attention.qkv.out_features == 3 * block.attention.out.in_features
    assert set(provenance(small)[0].structure["kept"]["heads"]) == {f"blocks.{i}.attention.qkv" for i in range(2)}


def test_heads_that_share_keys_go_together(tmp_path):
    left = UNITS | {f"blocks.{i}.attention.qkv": 1 for i in range(2)}
    small = check(lambda: Encoder(Turned), [ids(), ids(9)], left, tmp_path)
    assert (small.blocks[0].attention.qkv.out_features, small.blocks[0].attention.key_value.out_features) == (16, 16)


def test_a_bias_of_each_head_goes_along_and_what_only_looks_like_a_count_stays(tmp_path):
    left = UNITS | {f"blocks.{i}.attention.qkv": 2 for i in range(2)}
    small = check(lambda: Encoder(Biased), [ids(), ids(9)], left, tmp_path)
    for block in small.blocks:
        attention = block.attention
        assert (attention.bias.embedding_dim, attention.bias.weight.shape) == (2, (9, 2))
        assert (attention.layers, attention.batches, attention.width) == (4, 2, 16)


class Shared(nn.Module):
    """Zeros for each head, made by one layer and used by two; raw parameters; a padded shortcut."""

    def __init__(self):
        super().__init__()
        self.heads, self.dim, self.grow = 4, 8, 4
        self.qkv = nn.ModuleList(nn.Linear(16, 96) for _ in range(2))
        self.out = nn.ModuleList(nn.Linear(32, 16) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(16) for _ in range(2))
        self.expand, self.slope = nn.Parameter(torch.randn(16, 24)), nn.Parameter(torch.ones(24))
        self.contract = nn.Linear(24, 3)

    def forward(self, x):
        b, t, _ = x.shape
        bias = torch.zeros(1, self.heads, t, t, dtype=x.dtype)
        for norm, qkv, out in zip(self.norms, self.qkv, self.out, strict=True):
            q, k, v = qkv(norm(x)).view(b, t, 3, -1, self.dim).permute(2, 0, 3, 1, 4).unbind()
            x = x + out(((q @ k.mT + bias).softmax(-1) @ v).transpose(1, 2).flatten(2))
        return self.contract(F.relu(x @ self.expand) * self.slope)


def normalized(norm):
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(norm), nn.ReLU(), nn.Linear(8, 3))


@pytest.mark.parametrize(
    ("norm", "shape", "left"), [(8, (4, 8, 6), 8), (5, (4, 5, 6), 5), (8, (4, 6), 4)], ids=["as many", "steps", "units"]
)
def test_data_tell_whether_a_batch_norm_is_of_steps_or_of_units(norm, shape, left, tmp_path):
    """Once wrong: over as many steps as units the norm was cut, and the next call failed."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    small = check(lambda: normalized(norm), x, {"0": 4}, tmp_path)
    assert small[1].num_features == left


def test_what_two_layers_share_couples_them_and_raw_parameters_are_cut(tmp_path):
    x = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    small = check(Shared, [x, x[:, :3]], {"qkv.0": 2, "": 12}, tmp_path)
    assert (small.heads, small.dim, small.grow) == (2, 8, 4)
    assert (small.expand.shape, small.slope.shape) == ((16, 12), (12,))


def test_torchs_attention_beside_an_mlp_of_ones_own(tmp_path):
    small = check(lambda: Encoder(Torchs), [ids(), ids(9)], UNITS, tmp_path)
    assert [block.attention.qkv.num_heads for block in small.blocks] == [2, 2]


class Both(nn.Module):
    """A Hugging Face model, which an architecture describes, beside layers of one's own."""

    def __init__(self):
        super().__init__()
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 24}
        self.text = BertModel(BertConfig(vocab_size=50, **sizes))
        self.image = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3))
        self.head = nn.Sequential(nn.Linear(22, 20), nn.ReLU(), nn.Linear(20, 2))

    def forward(self, ids, image):
        text, image = self.text(ids).last_hidden_state[:, 0], self.image(image).mean((2, 3))
        return self.head(torch.cat([text, image], dim=-1))


def test_a_bert_beside_a_convolution_net(tmp_path):
    small = check(Both, Inputs((ids(), images())), {"image.0": 4, "image.3": 3, "head.0": 10}, tmp_path)
    attention = small.text.encoder.layer[0].attention.self
    assert (attention.num_attention_heads, small.text.encoder.layer[0].intermediate.dense.out_features) == (2, 12)


def test_where_a_family_is_known_by_its_feed_forward_networks_alone_heads_are_followed():
    """Once wrong: the layer that has the known network is taken as known with the attention in it."""
    sizes = {"image_size": 32, "patch_size": 4, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 4]}
    with seeded(0):
        model = Swinv2Model(Swinv2Config(window_size=4, **sizes)).eval()
    kept = provenance(HALF.apply(model))[0].structure["kept"]
    assert sorted(kept["heads"].values()) == [1, 2]
    assert len(kept["units"]) >= 2


# recurrent layers


class Recurrent(nn.Module):
    def __init__(self, kind, **options):
        super().__init__()
        self.tokens, self.layers = nn.Embedding(50, 8), kind(8, 12, batch_first=True, **options)
        self.out = nn.Linear(24 if options.get("bidirectional") else 12, 5)

    def forward(self, ids):
        return self.out(self.layers(self.tokens(ids))[0][:, -1])


class Stepwise(nn.Module):
    """Cells in a loop, and a first state that is made in the code."""

    def __init__(self, kind):
        super().__init__()
        self.width, self.cell, self.out = 12, kind(8, 12), nn.Linear(12, 5)

    def forward(self, x):
        state = [x.new_zeros(x.shape[0], self.width) for _ in range(2 if isinstance(self.cell, nn.LSTMCell) else 1)]
        for step in x.unbind(1):
            found = self.cell(step, tuple(state) if len(state) > 1 else state[0])
            state = list(found) if isinstance(found, tuple) else [found]
        return self.out(state[0])


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}], ids=["one", "both ways"])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_lose_units(kind, options, tmp_path):
    small = check(lambda: Recurrent(kind, **options), [ids(), ids(9)], {"tokens": 4, "layers": 6}, tmp_path)
    assert (small.layers.hidden_size, small.layers.input_size, small.tokens.embedding_dim) == (6, 4, 4)


@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell])
def test_cells_in_a_loop_lose_units(kind, tmp_path):
    x = torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    small = check(lambda: Stepwise(kind), [x, x[:, :3]], {"cell": 6}, tmp_path)
    assert (small.width, small.cell.hidden_size, small.cell.input_size) == (6, 6, 8)


# as techniques


@pytest.mark.parametrize("name", ["structured-50-taylor", "structured-25-global", "structured-25+structured-50"])
def test_each_way_to_choose_works_on_what_was_followed(name, tmp_path):
    with seeded(0):
        model = Encoder(Attention).eval()
    small = parse_technique(name).apply(model, data=[ids()])
    assert 1.2 * sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in model.parameters())
    again = load(save(small, tmp_path / "small"), model=Encoder(Attention))
    assert torch.equal(again(ids()), small(ids()))


def test_what_was_cut_can_be_quantized_and_loaded(tmp_path):
    with seeded(0):
        model = Encoder(Chunked).eval()
    small = parse_technique("structured-50+int8-dynamic").apply(model)
    again = load(save(small, tmp_path / "small"), model=Encoder(Chunked))
    assert torch.equal(again(ids()), small(ids()))


def test_without_data_an_input_is_found():
    with seeded(0):
        models = [Encoder(Attention), Dense(), Dense().half(), Recurrent(nn.GRU), Both(), mobilenet()]
    for model in models:
        small = HALF.apply(model.eval())
        assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in model.parameters())
