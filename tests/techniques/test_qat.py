"""Models are prepared for quantization-aware training, trained, converted, saved; what cannot be is refused."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import BartConfig, BartModel, FalconConfig, FalconModel, GPT2Config, GPT2LMHeadModel

import perfsuite
from perfsuite import Inputs, Int8Dynamic, convert_qat, fake_quantization, parse_technique, prepare_qat, recalibrate_qat
from perfsuite.errors import NonFiniteError, PerfsuiteError, TechniqueError
from perfsuite.models.seeding import seeded
from perfsuite.techniques.common import main_output
from perfsuite.techniques.fake_quantized import fake_quantized
from perfsuite.techniques.quantization.bag import Int8EmbeddingBag
from perfsuite.techniques.quantization.grid import LOWEST, STEPS
from perfsuite.techniques.quantization.qat.grids import fake_fixed, fake_rows, fake_weight
from perfsuite.techniques.quantization.readable import QuantizedLayer
from perfsuite.techniques.quantization.recurrent import Int8Recurrent
from perfsuite.testing.contract import run, state_bytes
from perfsuite.testing.strategies import TiedClassifier

from . import small

pytestmark = pytest.mark.filterwarnings("ignore::perfsuite.CoverageWarning")  # int8-static leaves much in float
TECHNIQUES = ("int8-dynamic", "int8-dynamic-tensor", "int8-static", "weight-only-4", "weight-only-2")
IDS = Inputs((torch.randint(0, 30, (2, 5), generator=torch.Generator().manual_seed(0)),))


class Reader(nn.Module):
    """Of each kind of layer that is stored in int8, one: ids (B, T) to (B, 3)."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(30, 8)
        self.bag = nn.EmbeddingBag(30, 12)
        self.convolution = nn.Conv1d(8, 8, 3, padding=1)
        self.recurrent = nn.LSTM(8, 6, batch_first=True, bidirectional=True)
        self.out = nn.Linear(12, 3)

    def forward(self, ids):
        x = self.convolution(self.table(ids).mT).mT
        return self.out(self.recurrent(x)[0].mean(dim=1) + self.bag(ids))


def gpt2():
    return GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=100, n_positions=32, bos_token_id=1))


def bart():
    sizes = {"encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    layers = {"encoder_layers": 1, "decoder_layers": 1}
    return BartModel(BartConfig(d_model=16, dropout=0.0, scale_embedding=True, **layers, **sizes, **small.SIZES))


def falcon():
    return FalconModel(FalconConfig(vocab_size=100, hidden_size=16, num_hidden_layers=1, num_attention_heads=2))


def torch_encoder():
    layer = nn.TransformerEncoderLayer(16, 2, 24, 0.0, batch_first=True)
    return nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)


MODELS = {
    "our encoder": (small.encoder, IDS),
    "BERT": (small.bert, small.tokens()),
    "GPT-2, whose layers are turned, and whose head is tied": (gpt2, small.tokens()),
    "BART, with an embedding of its own": (bart, small.tokens()),
    "Falcon, with a linear layer of its own": (falcon, small.tokens()),
    "torch's encoder": (torch_encoder, Inputs((small.randn(2, 5, 16),))),
    "tied": (lambda: TiedClassifier(30, 8), IDS),
    "of all kinds": (Reader, IDS),
    "one layer": (lambda: nn.Linear(16, 4), Inputs((small.randn(3, 16),))),
}


def made(name):
    make, inputs = MODELS[name]
    with seeded(0):
        return make().eval(), inputs


def train(model, inputs, steps=3, learning_rate=1e-2):
    """A few steps towards outputs of ones; the losses."""
    optimizer, losses = torch.optim.Adam(model.parameters(), learning_rate), []
    for _ in range(steps):
        optimizer.zero_grad()
        output = main_output(model(*inputs.args, **inputs.kwargs))
        loss = F.mse_loss(output, torch.ones_like(output))
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("technique", TECHNIQUES)
def test_what_is_trained_is_what_the_technique_makes_of_the_trained_weights(technique, name):
    model, inputs = made(name)
    prepared = prepare_qat(model, technique, [inputs])
    assert convert_qat(prepared).training is False
    losses = train(prepared, inputs)
    assert losses[-1] < losses[0]
    converted = convert_qat(prepared)
    before, after = run(prepared, inputs), run(converted, inputs)
    assert 20 * torch.log10(before.norm() / (before - after).norm()) > 100, "further apart than sums of floats round"
    expected = parse_technique(technique).apply(model, data=[inputs])
    assert str(converted) == str(expected)
    quantized = {name for name, layer in expected.named_modules() if isinstance(layer, QuantizedLayer | Int8Recurrent)}
    assert fake_quantized(prepared).keys() == quantized
    assert state_bytes(converted) != state_bytes(expected), "training has changed nothing"


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_all_parameters_of_all_kinds_are_trained(technique):
    model, inputs = made("of all kinds")
    prepared = prepare_qat(model, technique, [inputs])
    train(prepared, inputs, steps=1)
    assert all(parameter.grad.abs().sum() > 0 for parameter in prepared.parameters())


@pytest.mark.parametrize("technique", ["int8-static", "weight-only-4"])
def test_the_result_is_saved_and_loaded(technique, tmp_path):
    model, inputs = made("our encoder")
    prepared = prepare_qat(model, technique, [inputs])
    train(prepared, inputs)
    converted = convert_qat(prepared)
    again = perfsuite.load_model(perfsuite.save_model(converted, tmp_path / "model"))
    assert torch.equal(run(again, inputs), run(converted, inputs))
    assert perfsuite.provenance(again)[-1].technique == technique
    assert perfsuite.provenance(again)[-1].fidelity.decibels > 100


def test_the_record_goes_on_from_what_was_done_before():
    pruned = perfsuite.Magnitude(0.5).apply(small.encoder())
    converted = convert_qat(prepare_qat(pruned, Int8Dynamic()))
    assert [step.technique for step in perfsuite.provenance(converted)] == ["magnitude-50", "int8-dynamic"]


def test_zeros_stay_zeros_while_a_pruned_model_is_trained():
    prepared = prepare_qat(perfsuite.Magnitude(0.5).apply(small.encoder()), Int8Dynamic())
    before = {name: p == 0 for name, p in prepared.named_parameters()}
    with perfsuite.keep_zeros(prepared):
        train(prepared, IDS)
    converted = convert_qat(prepared)
    zeros = sum(int((layer.codes == 0).sum()) for layer in converted.modules() if hasattr(layer, "codes"))
    assert zeros >= sum(int(mask.sum()) for name, mask in before.items() if name.endswith("weight"))


def pickled(model):
    return pickle.loads(pickle.dumps(model))  # noqa: S301  # its own, from a line above


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled])
@pytest.mark.parametrize("technique", ["int8-static", "weight-only-4"])
def test_copies_and_pickles_are_prepared_too(technique, copied):
    model, inputs = made("of all kinds")
    prepared = prepare_qat(model, technique, [inputs])
    other = copied(prepared)
    train(other, inputs)
    assert state_bytes(convert_qat(prepared)) == state_bytes(parse_technique(technique).apply(model, data=[inputs]))
    train(prepared, inputs)
    assert state_bytes(convert_qat(other)) == state_bytes(convert_qat(prepared))


def test_training_goes_on_from_a_state_dict():
    model, inputs = made("our encoder")
    prepared = prepare_qat(model, "int8-static", [inputs])
    train(prepared, inputs)
    other = prepare_qat(model, "int8-static", [Inputs((inputs.args[0][:1, :2],))])  # other ranges
    other.load_state_dict(prepared.state_dict())
    assert state_bytes(convert_qat(other)) == state_bytes(convert_qat(prepared))


@pytest.mark.parametrize("technique", ["int8-static", "int8-static-mse"])
def test_ranges_are_calibrated_again_as_the_technique_would(technique):
    model, inputs = made("our encoder")
    prepared, in_float = prepare_qat(model, technique, [inputs]), copy.deepcopy(model)
    train(prepared, inputs)
    in_float.load_state_dict(dict(prepared.named_parameters()), strict=False)
    before, data = state_bytes(prepared), [inputs, inputs]
    recalibrate_qat(prepared, data)
    changed = {name for name, value in state_bytes(prepared).items() if value != before[name]}
    assert changed
    assert all(name.endswith(("input_scale", "input_zero")) for name in changed)
    expected = parse_technique(technique).apply(in_float, data=data)
    assert state_bytes(convert_qat(prepared)) == state_bytes(expected)
    assert perfsuite.provenance(convert_qat(prepared))[-1].data == perfsuite.provenance(expected)[-1].data


def test_only_ranges_are_new_names_in_a_state_dict():
    model, inputs = made("our encoder")
    assert prepare_qat(model, "int8-dynamic").state_dict().keys() == model.state_dict().keys()
    new = prepare_qat(model, "int8-static", [inputs]).state_dict().keys() - model.state_dict().keys()
    assert {name.rpartition(".")[2] for name in new} == {"input_scale", "input_zero"}


def test_a_name_on_the_layer_is_read_as_the_weight_that_it_computes_with():
    """As models do that read their layers' weights."""
    prepared = prepare_qat(small.mlp(8, 6), Int8Dynamic())
    layer = prepared[0]
    assert not torch.equal(layer.weight, dict(layer.named_parameters())["weight"])
    assert torch.equal(layer.weight, convert_qat(prepared)[0].weight)
    with fake_quantization(prepared, enabled=False):
        assert layer.weight is dict(layer.named_parameters())["weight"]


def test_the_switch_is_put_back_after_an_error():
    prepared = prepare_qat(small.mlp(8, 6), Int8Dynamic())
    with pytest.raises(ZeroDivisionError), fake_quantization(prepared, enabled=False):
        with fake_quantization(prepared, enabled=True):
            assert all(layer.fakes for layer in fake_quantized(prepared).values())
        assert not any(layer.fakes for layer in fake_quantized(prepared).values())
        raise ZeroDivisionError
    assert all(layer.fakes for layer in fake_quantized(prepared).values())


def test_hooks_and_modes_and_what_is_frozen_stay():
    model, calls = small.mlp(8, 6, 4), []
    model[0].register_forward_hook(lambda *given: calls.append(given))
    model[2].weight.requires_grad_(False)
    model.train()
    prepared = prepare_qat(model, Int8Dynamic())
    calls.clear()
    prepared(small.randn(2, 8)).sum().backward()
    assert len(calls) == 1
    assert prepared.training
    assert dict(prepared.named_parameters())["2.weight"].grad is None
    assert convert_qat(prepared).training


def test_inputs_by_name_are_quantized_too():
    prepared = prepare_qat(nn.Linear(8, 4), Int8Dynamic())
    x = small.randn(3, 8)
    assert torch.equal(prepared(input=x), prepared(x))


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (9, 9)])
def test_ids_of_any_shape_are_looked_up_on_the_grid(shape):
    prepared = prepare_qat(nn.Sequential(nn.Embedding(30, 8)), Int8Dynamic())
    ids = torch.randint(0, 30, shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(prepared(ids), convert_qat(prepared)(ids))


def test_a_wrapper_around_it_is_seen_through():
    model = nn.DataParallel(prepare_qat(small.mlp(8, 6), Int8Dynamic()))
    assert torch.equal(convert_qat(model)[0].codes, Int8Dynamic().apply(small.mlp(8, 6))[0].codes)


def test_layers_that_are_to_stay_in_float_do():
    prepared = prepare_qat(small.encoder(), Int8Dynamic(exclude=("layers.0", "Embedding")))
    assert fake_quantized(prepared)
    assert not any(name.startswith("layers.0") or name == "embedding" for name in fake_quantized(prepared))


def test_it_trains_under_autocast_and_in_bfloat16():
    for model, context in (
        (small.encoder(), torch.autocast("cpu", torch.bfloat16)),
        (small.encoder().bfloat16(), torch.autocast("cpu", enabled=False)),
    ):
        prepared = prepare_qat(model, "int8-static", [IDS])
        with context:
            losses = train(prepared, IDS, steps=5)
        assert losses[-1] < losses[0]
        assert convert_qat(prepared)


def test_gradients_are_the_same_where_the_forward_pass_is_made_again():
    prepared, x = prepare_qat(small.mlp(8, 6, 4), "int8-static", [Inputs((small.randn(5, 8) / 2,))]), small.randn(5, 8)
    outputs = prepared(x), checkpoint(prepared, x, use_reentrant=False)
    found = [torch.autograd.grad(y.square().sum(), [*prepared.parameters()]) for y in outputs]
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.slow  # it compiles
@pytest.mark.parametrize("technique", ["int8-static", "int8-dynamic", "weight-only-4"])
def test_a_compiled_model_is_trained_on_the_same_grids(technique):
    """A scale that is not rounded as the stored one is would be 4e-4 off here."""
    x = small.randn(4, 8)
    prepared = prepare_qat(small.mlp(8, 6, 4), technique, [Inputs((x,))])
    found = []
    for forward in (prepared, torch.compile(prepared, fullgraph=True)):
        y = forward(x)
        found.append((y, *torch.autograd.grad(y.square().sum(), [*prepared.parameters()])))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


PREPARED = prepare_qat(small.mlp(8, 6), Int8Dynamic())


@pytest.mark.parametrize(
    ("refused", "said"),
    [
        (lambda: prepare_qat(PREPARED, Int8Dynamic()), r"'0' is prepared for quantization-aware training"),
        (lambda: perfsuite.Magnitude(0.5).apply(PREPARED), r"magnitude-50 cannot be applied: '0' is prepared"),
        (lambda: perfsuite.save_model(PREPARED, "nowhere"), r"cannot be saved: '0' is prepared"),
        (lambda: prepare_qat(Int8Dynamic().apply(small.mlp(8, 6)), Int8Dynamic()), r"is quantized already: '0'"),
        (lambda: prepare_qat(small.mlp(8, 6), "bf16"), r"no quantization-aware training for 'bf16'"),
        (lambda: prepare_qat(small.mlp(8, 6), "magnitude-50+int8-dynamic"), r"for 'magnitude-50\+int8-dynamic'"),
        (lambda: prepare_qat(small.mlp(8, 6), "int8-static"), r"needs calibration data"),
        (lambda: prepare_qat(nn.ReLU(), Int8Dynamic()), r"found no float weights"),
        (lambda: convert_qat(small.mlp(8, 6)), r"the Sequential is not prepared"),
        (lambda: recalibrate_qat(small.mlp(8, 6), [IDS]), r"the Sequential is not prepared"),
        (lambda: recalibrate_qat(PREPARED, [IDS]), r"int8-dynamic has no ranges"),
        (lambda: fake_quantization(small.mlp(8, 6), enabled=False).__enter__(), r"the Sequential is not prepared"),
    ],
)
def test_what_cannot_be_is_refused_by_name(refused, said):
    with pytest.raises(PerfsuiteError, match=said):
        refused()


def test_a_layer_that_nobody_knows_how_to_train_for_is_refused_by_name(monkeypatch):
    from perfsuite.techniques.quantization import stored

    class Unknown(Int8EmbeddingBag):
        """What a subclass computes, nobody knows."""

    monkeypatch.setattr(stored, "KINDS", (stored.Kind(stored.BAG.is_one, Unknown),))
    with pytest.raises(TechniqueError, match="layer 'bag' becomes a Unknown"), perfsuite.unchecked():
        prepare_qat(Reader(), Int8Dynamic(exclude=("recurrent",)))


def test_weights_that_became_nan_are_named():
    prepared = prepare_qat(small.mlp(8, 6), Int8Dynamic())
    with torch.no_grad():
        next(prepared.parameters())[0, 0] = torch.nan
    with pytest.raises(NonFiniteError, match=r"0\.weight"):
        convert_qat(prepared)


def straight(x, values, inside=1.0):
    """The definition, by autograd: the values, and the gradient of x where it is inside."""
    return values.detach() + (x - x.detach()) * inside


def test_gradients_of_a_whole_model_are_those_of_the_definition():
    """In float64, through two layers, beside an implementation that shares nothing with ours but the grids' numbers."""
    model, x = small.mlp(8, 6, 4).double(), small.randn(5, 8).double()
    prepared = prepare_qat(model, "int8-static", [Inputs((x / 2,))])  # so that some of x is beyond the ends
    converted = convert_qat(prepared)
    given = x.clone().requires_grad_()
    weights = dict(prepared.named_parameters())
    y, cut = given, 0
    for name in ("0", "2"):
        layer = converted.get_submodule(name)
        steps = (y / layer.input_scale + layer.input_zero).round()
        inside = ((steps >= LOWEST) & (steps <= LOWEST + STEPS)).double()
        cut += int((inside == 0).sum())
        on_grid = (steps.clamp(LOWEST, LOWEST + STEPS) - layer.input_zero) * layer.input_scale
        weight = straight(weights[f"{name}.weight"], layer.codes * layer.scale[:, None])
        y = F.linear(straight(y, on_grid, inside), weight, weights[f"{name}.bias"])
        y = y.relu() if name == "0" else y
    assert cut > 0
    parameters = [given, *weights.values()]
    expected = torch.autograd.grad(y.square().sum(), parameters)
    found = torch.autograd.grad(prepared(given).square().sum(), parameters)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_what_decides_on_a_grid_gets_no_gradient():
    """The largest value of a row sets its scale; its gradient is 1, as that of the others."""
    x = small.randn(3, 8).requires_grad_()
    for values in (fake_rows(x, per_token=True), fake_rows(x, per_token=False)):
        assert torch.equal(torch.autograd.grad(values.sum(), x)[0], torch.ones_like(x))
    scale, zero = torch.tensor(0.1), torch.tensor(-3.0)
    ends = torch.tensor([[-12.56, -12.54, 0.0, 12.94, 12.96]], requires_grad=True)  # grid: -12.5 to 12.9
    gradient = torch.autograd.grad(fake_fixed(ends, scale, zero).sum(), ends)[0]
    assert gradient.tolist() == [[0, 1, 1, 1, 0]]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_seen(bad):
    x = torch.tensor([[1.0, bad], [1.0, 2.0]])
    for values in (fake_rows(x, per_token=True), fake_fixed(x, torch.tensor(0.1), torch.tensor(0.0))):
        assert values[0].isnan().any()
        assert values[1].isfinite().all()


def test_gradients_of_gradients_pass_too():
    x = small.randn(2, 4).requires_grad_()
    (first,) = torch.autograd.grad((fake_weight(x, lambda w: w.round()) ** 3).sum(), x, create_graph=True)
    assert first.requires_grad
