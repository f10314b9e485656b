"""Units and channels of plain models: what may be removed, and what only looks as if it might."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.nn.utils import prune

from perfsuite import Structured
from perfsuite.errors import TechniqueError
from perfsuite.models.seeding import seeded
from perfsuite.protocols import Inputs
from perfsuite.storage import load, save
from perfsuite.techniques.pruning.groups import find_groups
from perfsuite.testing.contract import run, state_bytes
from perfsuite.testing.pruning import drops_what_the_units_owned, equals_the_masked_model
from perfsuite.testing.strategies import Sample

HALF = Structured(0.5, 0.5)


class Model(nn.Module):
    """Layers by name, and a function of them and an input as forward."""

    def __init__(self, forward, **layers):
        super().__init__()
        self.run = forward
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self.run(self, x)


def warm(model):
    """Parameters and statistics of norms that are neither 0 nor 1, so that a wrong one shows."""
    with seeded(1):
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                for tensor in (module.running_mean, module.running_var, module.weight, module.bias):
                    if tensor is not None:
                        nn.init.uniform_(tensor, 0.5, 1.5)
    return model.eval()


def found(model):
    return {group.name: group.count for group in find_groups(model)}


def check(model, x, readers, technique=HALF):
    """The small model equals the full one with what was removed masked where it is read; gives the counts left.

    ``readers``: which layer reads which. Units are known by their biases, all different.
    """
    small, masked = technique.apply(warm(model)), copy.deepcopy(model)
    assert readers.keys() == found(model).keys()
    for name, reader in readers.items():
        bias, left = (m.get_submodule(name).bias.detach() for m in (model, small))
        kept, weight = torch.isin(bias, left), masked.get_submodule(reader).weight.detach()
        assert torch.equal(bias[kept], left)
        weight[:, ~kept.repeat_interleave(weight.shape[1] // len(kept))] = 0
    torch.testing.assert_close(small(x), masked(x), rtol=1e-4, atol=1e-5)
    return found(small)


def test_an_mlp_loses_half_of_each_hidden_layer():
    with seeded(0):
        model = nn.Sequential(nn.Linear(6, 10), nn.GELU(), nn.Dropout(), nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, 3))
        x = torch.randn(4, 6)
    assert check(model, x, {"0": "3", "3": "5"}) == {"0": 5, "3": 4}
    small = HALF.apply(model)
    assert [(m.in_features, m.out_features) for m in small if isinstance(m, nn.Linear)] == [(6, 5), (5, 4), (4, 3)]


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("statistics", [True, False])
def test_a_convolution_net_with_norms_pools_and_flatten(affine, statistics):
    with seeded(0):
        norms = [nn.BatchNorm2d(n, affine=affine, track_running_stats=statistics) for n in (6, 4)]
        model = nn.Sequential(
            nn.Conv2d(1, 6, 3), norms[0], nn.ReLU(), nn.MaxPool2d(2), nn.Dropout2d(),
            nn.Conv2d(6, 4, 2), norms[1], nn.SiLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
            nn.Linear(16, 7), nn.ReLU(), nn.Linear(7, 3),
        )  # fmt: skip
        x = torch.randn(5, 1, 10, 10)
    assert check(model, x, {"0": "5", "5": "10", "10": "12"}) == {"0": 3, "5": 2, "10": 3}
    small = HALF.apply(model)
    assert (small[1].num_features, small[6].num_features) == (3, 2)
    assert (small[5].in_channels, small[5].out_channels, small[10].in_features) == (3, 2, 8)


def test_one_dimensional_convolutions_and_norms_of_linear_layers():
    with seeded(0):
        audio = nn.Sequential(nn.Conv1d(2, 6, 3), nn.BatchNorm1d(6), nn.AvgPool1d(2), nn.Conv1d(6, 3, 2))
        table = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2))
        assert check(audio, torch.randn(2, 2, 12), {"0": "3"}) == {"0": 3}
        assert check(table, torch.randn(4, 5), {"0": "3"}) == {"0": 3}


def test_a_model_written_with_functions():
    def forward(m, x):
        x = F.max_pool2d(F.relu(m.conv(x)), 2)
        x = torch.relu(m.fc(torch.flatten(x, 1)))
        return m.out(F.dropout(x.tanh(), training=m.training))

    with seeded(0):
        model = Model(forward, conv=nn.Conv2d(1, 4, 3), fc=nn.Linear(16, 6), out=nn.Linear(6, 2))
        x = torch.randn(3, 1, 6, 6)
    assert check(model, x, {"conv": "fc", "fc": "out"}) == {"conv": 2, "fc": 3}


@pytest.mark.parametrize("flatten", [lambda x: x.flatten(1), lambda x: torch.flatten(x, start_dim=1)])
def test_each_way_to_flatten_is_known(flatten):
    with seeded(0):
        model = Model(lambda m, x: m.out(flatten(m.conv(x))), conv=nn.Conv2d(1, 4, 3), out=nn.Linear(16, 2))
        assert check(model, torch.randn(3, 1, 4, 4), {"conv": "out"}) == {"conv": 2}


def test_a_model_that_cannot_be_traced_has_its_sequential_parts():
    def forward(m, x):
        return m.parts["body"](x if float(x.sum()) > 0 else -x)

    with seeded(0):
        body = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        model, x = Model(forward, parts=nn.ModuleDict({"body": body})), torch.randn(2, 4)
    assert check(model, x, {"parts.body.0": "parts.body.2"}) == {"parts.body.0": 4}


def test_a_norm_after_a_pool_and_flatten_goes_along():
    with seeded(0):
        pooled = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(4)]
        model, x = nn.Sequential(nn.Conv2d(1, 4, 3), *pooled, nn.Linear(4, 3)), torch.randn(2, 1, 5, 5)
    assert check(model, x, {"0": "4"}) == {"0": 2}


SAFE = {
    "a residual onto the layer's own output": (
        lambda m, x: m.b(x + m.a(x)),
        {"a": (4, 4), "b": (4, 3)},
    ),
    "a hidden state that is returned": (lambda m, x: (m.b(h := m.a(x)), h), {"a": (4, 6), "b": (6, 3)}),
    "a softmax over the units": (lambda m, x: m.b(m.a(x).softmax(-1)), {"a": (4, 6), "b": (6, 3)}),
    "a layer that is called twice": (lambda m, x: m.b(m.a(m.a(x))), {"a": (4, 4), "b": (4, 3)}),
    "a reader that is called twice": (lambda m, x: m.b(m.a(x)) + m.b(x), {"a": (4, 4), "b": (4, 3)}),
    "a sort of the units": (lambda m, x: m.b(m.a(x).sort(-1).values), {"a": (4, 6), "b": (6, 3)}),
    "its shape": (lambda m, x: m.b(h := m.a(x)) * h.shape[1], {"a": (4, 6), "b": (6, 3)}),
    "nothing: the last layer": (lambda m, x: m.a(x), {"a": (4, 6)}),
}


COUPLED = {
    "a residual around the next layer": (
        lambda m, x: m.c((h := F.relu(m.a(x))) + m.b(h)),
        {"a": (4, 6), "b": (6, 6), "c": (6, 3)},
        {"a": (4, 3), "b": (3, 3), "c": (3, 3)},
    ),
    "a gate": (
        lambda m, x: m.c(m.a(x) * m.b(x).sigmoid()),
        {"a": (4, 6), "b": (4, 6), "c": (6, 3)},
        {"a": (4, 3), "b": (4, 3), "c": (3, 3)},
    ),
    "an index into the units": (
        lambda m, x: m.b(m.a(x)[:, 2:]),
        {"a": (4, 6), "b": (4, 3)},
        {"a": (4, 4), "b": (2, 3)},
    ),
}


@pytest.mark.parametrize(("forward", "shapes", "left"), COUPLED.values(), ids=COUPLED)
def test_what_others_look_at_is_no_chain_and_is_cut_with_them(forward, shapes, left):
    model = Model(forward, **{name: nn.Linear(*shape) for name, shape in shapes.items()})
    assert found(model) == {}
    small = HALF.apply(model)
    small(torch.randn(2, 4))
    assert {name: (layer.in_features, layer.out_features) for name, layer in small.named_children()} == left


@pytest.mark.parametrize(("forward", "shapes"), SAFE.values(), ids=SAFE)
def test_what_others_look_at_is_not_taken(forward, shapes):
    model = Model(forward, **{name: nn.Linear(*shape) for name, shape in shapes.items()})
    model(torch.randn(2, 4))
    assert found(model) == {}
    with pytest.raises(TechniqueError, match="found no heads, units or channels in the Model"):
        HALF.apply(model)


LOOK_ACROSS = {
    "layer norm": [nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 3)],
    "softmax": [nn.Linear(4, 6), nn.Softmax(-1), nn.Linear(6, 3)],
    "a learned slope": [nn.Linear(4, 6), nn.PReLU(2), nn.Linear(6, 3)],
    "gated linear unit": [nn.Linear(4, 12), nn.GLU(), nn.Linear(6, 3)],
    "flatten of tokens": [nn.Linear(4, 6), nn.Flatten(), nn.Linear(12, 3)],
    "pool of units": [nn.Linear(4, 6), nn.AvgPool1d(2), nn.Linear(3, 3)],
}


@pytest.mark.parametrize("layers", LOOK_ACROSS.values(), ids=LOOK_ACROSS)
def test_what_mixes_units_ends_a_chain(layers):
    model = nn.Sequential(*layers)
    model(torch.randn(2, 2, 4))
    assert found(model) == {}


def test_what_mixes_channels_ends_a_chain():
    def net(*between, readers=4, **options):
        return nn.Sequential(nn.Conv2d(2, 4, 3, **options), *between, nn.Conv2d(readers, 2, 1))

    assert found(net()) == {"0": 4}
    for model in (
        net(nn.GroupNorm(2, 4)),
        net(nn.Softmax2d()),
        net(nn.Conv2d(4, 4, 3, groups=4)),
        net(nn.PixelShuffle(2), readers=1),
        net(groups=2),
        nn.Sequential(nn.Conv2d(2, 4, 3), nn.Linear(4, 2)),
    ):
        model(torch.randn(1, 2, 6, 6))
        assert found(model) == {}


def test_tied_weights_are_not_cut():
    def tied(**layers):
        model = Model(lambda m, x: m.b(F.relu(m.a(x))) + F.linear(x, m.c.weight), **layers)
        model(torch.randn(2, 4))
        return model

    model = tied(a=nn.Linear(4, 4), b=nn.Linear(4, 4), c=nn.Linear(4, 4))
    assert found(model) == {"a": 4}
    for layer in (model.a, model.b):
        model.c.weight = layer.weight
        assert found(model) == {}


def test_a_chain_that_was_cut_is_loaded_into_a_fresh_model(tmp_path):
    with seeded(0):
        model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(96, 3))
        x = Inputs((torch.randn(2, 1, 6, 6),))
    small = Structured(0.0, 0.4).apply(warm(model))
    again = load(save(small, tmp_path / "saved"), model=copy.deepcopy(model))
    assert again[1].num_features == 4
    assert torch.equal(run(again, x), run(small, x))


def test_a_norm_after_flatten_has_several_features_for_each_channel():
    """Once wrong: _follow takes the norm along, and Slice(norm, 0) keeps one feature where a channel has nine."""
    with seeded(0):
        model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.BatchNorm1d(36), nn.Linear(36, 6), nn.Linear(6, 3))
        x = torch.randn(2, 1, 5, 5)
    readers = {"0": "3", "3": "4"}
    check(model, x, {name: readers[name] for name in found(model)})


def test_the_law_of_masking_takes_chains_of_three_layers():
    """Once wrong: the law finds units again by the bytes of their rows, which change as their inputs are removed."""
    with seeded(0):
        model = nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 3))
        sample = Sample(model.eval(), Inputs((torch.randn(4, 6),)), "")
    equals_the_masked_model(HALF, sample)
    drops_what_the_units_owned(HALF, sample)


@pytest.mark.parametrize(
    ("norm", "shape"), [(nn.BatchNorm2d(8), (2, 8, 4, 6)), (nn.BatchNorm1d(4), (2, 4, 6))], ids=["images", "tokens"]
)
def test_a_norm_over_another_dimension_ends_a_chain(norm, shape):
    """Once wrong: a batch norm is over dimension 1; the units of a linear layer are the last."""
    with seeded(0):
        model, x = nn.Sequential(nn.Linear(6, 8), norm, nn.Linear(8, 3)).eval(), torch.randn(shape)
    model(x)
    assert found(model) == {}


def test_a_pool_over_channels_ends_a_chain():
    """Once wrong: after Conv1d a two-dimensional pool goes over the channels, too."""
    with seeded(0):
        pool = nn.AvgPool2d((3, 1), stride=1, padding=(1, 0))
        model, x = nn.Sequential(nn.Conv1d(1, 4, 3), pool, nn.Conv1d(4, 2, 1)).eval(), torch.randn(2, 1, 6)
    model(x)
    assert found(model) == {}


def test_a_weight_that_is_read_as_a_tensor_is_not_cut():
    """Once wrong: only calls of modules are counted, and this autoencoder reads its encoder's weights in reverse."""

    def forward(m, x):
        code = m.b(F.relu(m.a(x)))
        return F.linear(F.relu(F.linear(code, m.b.weight.t(), m.bias)), m.a.weight.t())

    model = Model(forward, a=nn.Linear(6, 8), b=nn.Linear(8, 4), bias=nn.Parameter(torch.zeros(8)))
    model(torch.randn(2, 6))
    assert found(model) == {}


def test_a_layer_of_two_sequential_parts_is_not_cut():
    """Once wrong: each part is traced for itself, a module that is shared is not seen as shared."""
    shared = nn.Linear(4, 8)
    parts = {name: nn.Sequential(shared, nn.ReLU(), nn.Linear(8, 3)) for name in ("a", "b")}
    model = Model(lambda m, x: m.a(x) if float(x.sum()) > 0 else m.b(x), **parts)
    assert found(model) == {}


def test_a_sequential_that_is_read_inside_must_be_excluded():
    """Of a model that cannot be traced, nn.Sequential parts are taken to be run as a whole (see chains)."""

    def forward(m, x):
        inside = []
        for layer in m.body:
            x = layer(x)
            inside.append(x)
        return x + m.read(inside[1]) if float(x.sum()) < 1e9 else x

    with seeded(0):
        body = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        model, x = Model(forward, body=body, read=nn.Linear(8, 3)).eval(), torch.randn(2, 4)
    model(x)
    with pytest.raises(TechniqueError, match="found no heads, units or channels"):
        Structured(0.5, 0.5, exclude=("body",)).apply(model)


def test_what_only_training_looks_at_is_not_cut():
    """Once wrong: the graph is that of the mode the model is in; an auxiliary head is seen in training only."""

    def forward(m, x):
        h = F.relu(m.a(x))
        return m.b(h) + m.auxiliary(h) if m.training else m.b(h)

    model = Model(forward, a=nn.Linear(4, 8), b=nn.Linear(8, 3), auxiliary=nn.Linear(8, 3))
    assert found(model.train()) == {}
    assert found(model.eval()) == {}


class Optional(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.side = nn.Linear(4, 8), nn.Linear(8, 3), nn.Linear(8, 3)

    def forward(self, x, extra=None):
        h = F.relu(self.a(x))
        return self.b(h) + self.side(h) if extra is None else self.b(h) + extra


def test_what_a_left_out_argument_leads_to_is_not_cut():
    """Once wrong: an argument with a default is traced as if it were given."""
    assert found(Optional()) == {}


class Remembers(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.last = nn.Linear(4, 8), nn.Linear(8, 3), None
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        self.last = self.a(x)
        return self.b(F.relu(self.last))


def test_looking_for_chains_leaves_no_trace_in_the_model():
    """Once wrong: tracing runs forward on the model itself, which keeps a Proxy and counts a call."""
    model = Remembers()
    before = state_bytes(model)
    find_groups(model)
    assert not isinstance(model.last, fx.Proxy)
    assert state_bytes(model) == before


PARAMETRIZED = {
    "spectral norm": nn.utils.parametrizations.spectral_norm,
    "weight norm": nn.utils.parametrizations.weight_norm,
    "spectral norm by a hook": nn.utils.spectral_norm,
}


@pytest.mark.parametrize("wrap", PARAMETRIZED.values(), ids=PARAMETRIZED)
def test_a_weight_that_is_computed_is_cut_rightly_or_not_at_all(wrap):
    """Once wrong: setattr(layer, "weight", ...) does not reach what a spectral norm computes the weight from."""
    with seeded(0):
        model = nn.Sequential(wrap(nn.Conv2d(1, 4, 3)), nn.ReLU(), wrap(nn.Conv2d(4, 3, 3))).eval()
        x = torch.randn(2, 1, 7, 7)
    with torch.no_grad():
        model(x)  # a weight with a history could not be copied
    if found(model):
        small = HALF.apply(model.requires_grad_(False))
        kept = torch.isin(model[0].bias, small[0].bias)[:, None, None]
        model[2].register_forward_pre_hook(lambda layer, args: (args[0] * kept,))
        torch.testing.assert_close(small(x), model(x))


def test_a_mask_of_torchs_own_pruning_is_cut_along_or_not_at_all():
    """Once wrong: torch.nn.utils.prune computes weight from weight_orig and weight_mask, which keep their shapes."""
    with seeded(0):
        model, x = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval(), torch.randn(2, 4)
    prune.l1_unstructured(model[0], "weight", 0.25)
    with torch.no_grad():
        model(x)  # a weight with a history could not be copied
    if found(model):
        assert HALF.apply(model.requires_grad_(False))(x).shape == (2, 3)
