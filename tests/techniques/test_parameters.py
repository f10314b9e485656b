"""Parameters of modules of any class are stored in int8, and read as the floats that they stand for."""

import copy
import pickle

import pytest
import torch
import transformers as tf
from torch import nn

import perfsuite
from perfsuite.errors import TechniqueError
from perfsuite.models.seeding import seeded
from perfsuite.protocols import Inputs
from perfsuite.storage import count_stored
from perfsuite.techniques.quantization.parameters import ReadsInt8
from perfsuite.testing.contract import run, state_bytes

TECHNIQUES = pytest.mark.parametrize("technique", ["int8-dynamic", "int8-static", "weight-only-4"])


class Experts(nn.Module):
    """(N, 64) to (N, 96), by the expert of each row; ``small`` is nothing that counts."""

    def __init__(self, number=4):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(number, 96, 64) / 8)
        self.small = nn.Parameter(torch.randn(2, 64))

    def forward(self, x):
        rows = [nn.functional.linear(row, self.weight[i % len(self.weight)]) for i, row in enumerate(x + self.small[0])]
        return torch.stack(rows)


class Model(nn.Module):
    def __init__(self, kind=Experts):
        super().__init__()
        self.experts, self.head = kind(), nn.Linear(96, 5)

    def forward(self, x):
        return self.head(self.experts(x))


X = Inputs((torch.randn(6, 64, generator=torch.Generator().manual_seed(0)),))


def made(kind=Experts):
    with seeded(0):
        return Model(kind).eval()


@TECHNIQUES
def test_they_are_stored_in_a_quarter_and_come_back(technique, tmp_path):
    model = made()
    before = state_bytes(model)
    changed = perfsuite.parse_technique(technique).apply(model, data=[X])
    assert state_bytes(model) == before
    assert type(model.experts) is Experts
    assert isinstance(changed.experts, ReadsInt8)
    assert isinstance(changed.experts, Experts)
    assert dict(changed.experts.named_parameters()).keys() == {"small"}
    assert count_stored(model).size_bytes > 3.3 * count_stored(changed).size_bytes
    (step,) = perfsuite.provenance(changed)
    assert step.structure["parameters"] == ["experts.weight"]
    assert "1 of 3 weights in int8 computed in float" in str(step.coverage)
    found = run(changed, X)
    again = perfsuite.load_model(perfsuite.save_model(changed, tmp_path), model=made())
    for other in (again, copy.deepcopy(changed), pickled(changed)):
        assert torch.equal(run(other, X), found)


def test_what_is_read_is_within_half_a_step():
    model = made()
    changed = perfsuite.quantize_model(model).experts
    error = (changed.weight - model.experts.weight).abs().detach()
    assert bool((error <= changed.weight_scale.view(4, 96, 1) * 0.5001).all())
    assert changed.weight.dtype == torch.float32
    assert copy.deepcopy(changed).half().weight.dtype == torch.float16
    assert torch.equal(changed.weight[-1], torch.clone(changed.weight)[-1])


def test_one_expert_is_made_without_the_others():
    changed = perfsuite.quantize_model(made()).experts
    one = changed.weight[2]
    assert one.shape == (96, 64)
    expected = torch.clone(changed.weight)[2]
    changed.weight_codes[[0, 1, 3]] = 1
    assert torch.equal(torch.clone(one), expected)
    with pytest.raises(IndexError):
        changed.weight[4]


def pickled(module):
    return pickle.loads(pickle.dumps(module))  # noqa: S301  # our own


def test_it_can_be_exported_and_compiled():
    changed = perfsuite.quantize_model(made())
    expected = run(changed, X)
    with torch.no_grad():
        assert torch.allclose(torch.export.export(changed, X.args).module()(*X.args), expected, atol=1e-5)
        compiled = torch.compile(changed, backend="eager", fullgraph=True)
        assert torch.allclose(compiled(*X.args), expected, atol=1e-5)


class Writing(Experts):
    def forward(self, x):
        self.weight.data.clamp_(-1, 1)
        return super().forward(x)


def clamp(tensor):
    tensor.data.clamp_(-1, 1)


class Handing(Experts):
    """Its source does not say that it writes."""

    def forward(self, x):
        clamp(self.weight)
        return super().forward(x)


def test_what_a_forward_writes_to_stays_in_float():
    assert type(perfsuite.Int8Dynamic().apply(made(Writing), data=[X]).experts) is Writing


def test_who_writes_to_one_is_told_its_module():
    with pytest.raises(TechniqueError, match="'clamp_' writes to the weight of 'experts'"):
        perfsuite.Int8Dynamic().apply(made(Handing), data=[X])
    changed = perfsuite.Int8Dynamic(exclude=("experts",)).apply(made(Handing), data=[X])
    assert type(changed.experts) is Handing


class Tied(Model):
    def __init__(self):
        super().__init__()
        self.others = Experts()
        self.others.weight = self.experts.weight


class Router(Experts):
    """Called as what chooses experts is."""


@pytest.mark.parametrize("make", [Tied, lambda: Model(Router)], ids=["tied", "router"])
def test_what_several_have_and_what_chooses_experts_stays(make):
    with seeded(0):
        model = make().eval()
    changed = perfsuite.Int8Dynamic().apply(model, data=[X])
    assert type(changed.experts) is type(model.experts)


def test_the_model_itself_keeps_its_class_by_which_it_is_loaded():
    with seeded(0), pytest.raises(TechniqueError, match="no float weights"):
        perfsuite.Int8Dynamic().apply(Experts())


def test_a_quantized_model_is_not_quantized_again():
    changed = perfsuite.Int8Dynamic(exclude=("head",)).apply(made(), data=[X])
    with pytest.raises(TechniqueError, match="quantized already: 'experts'"):
        perfsuite.Int8Dynamic().apply(changed)


def test_what_weight_norm_keeps_is_stored(tmp_path):
    def build():
        with seeded(0):
            layer = nn.utils.parametrizations.weight_norm(nn.Conv1d(64, 64, 8, groups=4), dim=2)
            return nn.Sequential(layer, nn.Flatten(), nn.Linear(64 * 5, 4)).eval()

    model, x = build(), Inputs((torch.randn(2, 64, 12, generator=torch.Generator().manual_seed(0)),))
    changed = perfsuite.quantize_model(model)
    expected, found = run(model, x), run(changed, x)
    assert count_stored(model).size_bytes > 3 * count_stored(changed).size_bytes
    assert float((found - expected).norm() / expected.norm()) < 0.02
    assert torch.equal(run(model, x), expected)  # they share a class that torch has made
    assert torch.equal(run(perfsuite.load_model(perfsuite.save_model(changed, tmp_path), model=build()), x), found)


def test_xlnet_whose_attention_has_no_layers_goes_through(tmp_path):
    with seeded(0):
        config = tf.XLNetConfig(vocab_size=60, d_model=128, n_layer=1, n_head=4, d_inner=128)
        model = tf.XLNetModel(config).eval()
    inputs = Inputs(kwargs={"input_ids": torch.arange(8).view(1, 8)})
    changed = perfsuite.quantize_model(model)
    expected, found = run(model, inputs), run(changed, inputs)
    assert float(10 * torch.log10(expected.square().sum() / (expected - found).square().sum())) > 30
    assert count_stored(model).size_bytes > 3.4 * count_stored(changed).size_bytes
    assert torch.equal(run(perfsuite.load_model(perfsuite.save_model(changed, tmp_path)), inputs), found)


class Choosing(nn.Module):
    """As in Jamba: the layer that chooses is called so; what is called so and is large does not choose."""

    def __init__(self):
        super().__init__()
        self.router, self.gate = nn.Linear(64, 4), nn.Linear(64, 64)

    def forward(self, x):
        return (self.router(x).softmax(-1) * self.gate(x)[..., :4]).sum(-1, keepdim=True)


@TECHNIQUES
def test_layers_that_choose_experts_stay_in_float_and_are_named(technique):
    with seeded(0):
        model = nn.Sequential(Choosing(), nn.Linear(1, 1)).eval()
    changed = perfsuite.parse_technique(technique).apply(model, data=[torch.randn(2, 3, 64)])
    assert type(changed[0].router) is nn.Linear
    assert type(changed[0].gate) is not nn.Linear
    assert perfsuite.provenance(changed)[-1].structure["in_float"] == ["0.router"]
