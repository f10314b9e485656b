"""What somebody has put on a layer is on the one in its place, or the layer stays as it is and is named."""

import copy
import io
import types

import pytest
import torch
from torch import nn
from transformers import BartConfig, BartModel, FalconConfig, FalconModel, Gemma3ForCausalLM, Gemma3TextConfig

from perfsuite import provenance, quantize_model
from perfsuite.errors import StorageError
from perfsuite.measure.outputs import fidelity
from perfsuite.models.seeding import seeded
from perfsuite.protocols import Inputs
from perfsuite.storage import count_stored, load, save
from perfsuite.techniques.quantization.layers import Int8Embedding, Int8Linear
from perfsuite.techniques.quantization.packing import PackedLinear
from perfsuite.techniques.quantization.readable import QuantizedLayer
from perfsuite.techniques.values import parse_technique
from perfsuite.testing.contract import run

NAMES = ["int8-dynamic", "int8-static", "weight-only-8"]
IDS = torch.randint(2, 50, (2, 9), generator=torch.Generator().manual_seed(0))


class Attending(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.inner = nn.Embedding(50, 16), nn.Linear(16, 16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, ids):
        x = self.inner(self.table(ids))
        return self.attention(x, x, x)[0]


def attending():
    with seeded(0):
        return Attending().eval()


def applied(name, model):
    return parse_technique(name).apply(model, data=[IDS])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("where", ["table", "inner", "attention"])
def test_hooks_of_calls_are_kept(name, where):
    model, seen = attending(), []
    layer = model.get_submodule(where)
    layer.register_forward_pre_hook(lambda module, args: seen.append(("before", type(module))))
    layer.register_forward_pre_hook(lambda module, args, kwargs: seen.append("with keywords"), with_kwargs=True)
    layer.register_forward_hook(lambda module, args, output: seen.append("after"), always_call=True)
    changed = applied(name, model)
    seen.clear()
    run(changed, Inputs((IDS,)))
    assert seen == [("before", type(changed.get_submodule(where))), "with keywords", "after"]
    assert type(changed.get_submodule(where)) is not type(layer)


@pytest.mark.parametrize("where", ["inner", "attention"])
def test_a_hook_that_changes_what_comes_out_does_so(where):
    model = attending()
    double = {"inner": lambda module, args, y: 2 * y, "attention": lambda module, args, y: (2 * y[0], y[1])}[where]
    model.get_submodule(where).register_forward_hook(double)
    before, after = run(model, Inputs((IDS,))), run(quantize_model(model), Inputs((IDS,)))
    assert fidelity(before.double(), after.double())["sqnr"] > 30


@pytest.mark.parametrize("where", ["inner", "attention"])
def test_hooks_of_backward_passes_are_kept(where):
    model, seen = attending(), []
    layer = model.get_submodule(where)
    layer.register_full_backward_hook(lambda module, inputs, outputs: seen.append("after"))
    layer.register_full_backward_pre_hook(lambda module, outputs: seen.append("before"))
    quantize_model(model)(IDS).sum().backward()
    assert "before" in seen
    assert "after" in seen


@pytest.mark.parametrize("name", ["structured-50", "magnitude-50", "bf16"])
def test_hooks_of_an_attention_are_kept_by_other_techniques_too(name):
    model, seen = attending(), []
    model.attention.register_forward_hook(lambda *args: seen.append("after"))
    changed = applied(name, model)
    seen.clear()  # a technique may call the model that it is given
    run(changed, Inputs((IDS,)))
    assert seen == ["after"]


class Extras(nn.Module):
    """Reads from its layer what somebody has put on it."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(16, 16)
        self.layer.register_buffer("gain", torch.full((16,), 2.0))
        self.layer.register_buffer("shift", torch.full((16,), 3.0), persistent=False)
        self.layer.bonus = nn.Parameter(torch.full((16,), 0.5))
        self.layer.side = nn.Linear(16, 16)
        self.layer.factor = 4.0

    def forward(self, x):
        y = self.layer(x) * self.layer.gain + self.layer.shift
        return y * self.layer.factor + self.layer.bonus + self.layer.side(x)


@pytest.mark.parametrize("name", ["int8-dynamic", "weight-only-8", "fp16+int8-dynamic"])
def test_what_was_put_on_a_layer_is_there(name, tmp_path):
    with seeded(0):
        model, x = Extras().eval(), torch.randn(5, 16)
    changed = parse_technique(name).apply(model)
    before, after = run(model, Inputs((x,))), run(changed, Inputs((x,)))
    assert isinstance(changed.layer, QuantizedLayer)
    assert fidelity(before.double(), after.double())["sqnr"] > 30
    assert set(changed.state_dict()) - {"layer.codes", "layer.scale", "layer.scales"} == set(model.state_dict()) - {
        "layer.weight"
    }
    again = load(save(changed, tmp_path / "saved"), model=Extras())
    assert torch.equal(run(again, Inputs((x,))), after)


def test_a_root_that_is_one_layer_keeps_its_hooks():
    layer, seen = nn.Linear(4, 4), []
    layer.register_forward_hook(lambda *args: seen.append("after"))
    quantized = quantize_model(layer)
    seen.clear()  # it is called beside its result
    quantized(torch.ones(1, 4))
    assert seen == ["after"]


def doubled(self, x):
    return 2 * nn.functional.linear(x, self.weight, self.bias)


def own_forward(layer):
    layer.forward = types.MethodType(doubled, layer)


def reads_its_state(layer):
    layer.register_state_dict_post_hook(lambda module, state, prefix, metadata: None)


def takes_a_name(layer):
    layer.register_buffer("scale", torch.ones(16))


@pytest.mark.parametrize("put", [own_forward, reads_its_state, takes_a_name])
@pytest.mark.parametrize("name", NAMES)
def test_a_layer_that_cannot_be_replaced_stays_and_is_named(name, put, tmp_path):
    model = attending()
    put(model.inner)
    changed = applied(name, model)
    assert type(changed.inner) is nn.Linear
    assert isinstance(changed.table, Int8Embedding)
    assert provenance(changed)[0].structure == {"in_float": ["inner"]}
    before, after = run(model, Inputs((IDS,))), run(changed, Inputs((IDS,)))
    assert fidelity(before.double(), after.double())["sqnr"] > 30
    fresh = attending()
    put(fresh.inner)
    assert torch.equal(run(load(save(changed, tmp_path / "saved"), model=fresh), Inputs((IDS,))), after)


class Same(nn.Linear):
    def forward(self, input):
        y = input @ self.weight.T
        return y if self.bias is None else y + self.bias


class Clamped(nn.Linear):
    def forward(self, input):
        return super().forward(input).clamp(-5, 5)


class Noisy(nn.Linear):
    def forward(self, input):
        return nn.functional.dropout(super().forward(input), 0.5, self.training)


class Adapted(nn.Linear):
    def __init__(self, *args):
        super().__init__(*args)
        self.extra = nn.Parameter(torch.zeros(self.out_features))

    def forward(self, input):
        return super().forward(input) + self.extra


class Called(nn.Linear):
    def project(self, input):
        return self(input)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("kind", "is_quantized"), [
    (Same, True), (Clamped, False), (Noisy, False), (Adapted, False), (Called, False),
])  # fmt: skip
def test_a_class_that_is_proven_to_be_linear_is_quantized(kind, is_quantized, training, tmp_path):
    with seeded(0):
        model, x = nn.Sequential(kind(32, 16), nn.ReLU(), nn.Linear(16, 8)).train(training), torch.randn(4, 32)
    changed = parse_technique("int8-dynamic").apply(model)
    assert isinstance(changed[0], Int8Linear) is is_quantized
    structure = provenance(changed)[0].structure
    assert structure == ({"alike": ["0"]} if is_quantized else {"in_float": ["0"]})
    with seeded(1):
        fresh = nn.Sequential(kind(32, 16), nn.ReLU(), nn.Linear(16, 8))
    again = load(save(changed, tmp_path / "saved"), model=fresh)
    assert torch.equal(run(again, Inputs((x,))), run(changed.eval(), Inputs((x,))))


class Offset(nn.Embedding):
    """As BART's: positions, whatever the ids are."""

    def forward(self, ids):
        return super().forward(torch.arange(ids.shape[1]).expand_as(ids) + 2)


class Scaled(nn.Embedding):
    """As Gemma's."""

    factor = 3.0

    def forward(self, ids):
        return super().forward(ids) * torch.tensor(self.factor).to(self.weight.dtype)


class Normed(nn.Embedding):
    def forward(self, ids):
        return nn.functional.normalize(self.weight, dim=1)[ids]


class Writes(nn.Embedding):
    def forward(self, ids):
        with torch.no_grad():
            self.weight[0] = 0
        return super().forward(ids)


class NeedsMore(nn.Embedding):
    def forward(self, ids, positions):
        return super().forward(ids) + positions


@pytest.mark.parametrize(("kind", "is_quantized"), [
    (Offset, True), (Scaled, True), (Normed, True), (Writes, False), (NeedsMore, False),
])  # fmt: skip
def test_an_embedding_of_its_own_class_is_quantized_where_that_is_right(kind, is_quantized, tmp_path):
    with seeded(0):
        model = nn.ModuleDict({"table": kind(50, 32, padding_idx=0), "head": nn.Linear(32, 4)}).eval()
    changed = quantize_model(model)
    assert isinstance(changed["table"], QuantizedLayer) is is_quantized
    assert isinstance(changed["table"], kind)
    if is_quantized:
        with torch.no_grad():
            before, after = model["table"](IDS), changed["table"](IDS)
        assert fidelity(before, after)["sqnr"] > 35
        assert torch.equal(copy.deepcopy(changed)["table"](IDS), after)
        assert count_stored(changed).size_bytes < count_stored(model).size_bytes / 2
        again = load(
            save(changed, tmp_path / "saved"), model=nn.ModuleDict({"table": kind(50, 32, 0), "head": nn.Linear(32, 4)})
        )
        assert torch.equal(again["table"](IDS), after)
        assert changed["table"].half()(IDS).dtype is torch.float16


def test_rows_are_looked_up_without_making_the_others(monkeypatch):
    table = quantize_model(nn.Sequential(Scaled(50, 8)))[0]
    monkeypatch.setattr(type(table), "dequantized", lambda self, dtype: pytest.fail("all rows were made"))
    table(IDS)


FAMILIES = {
    "Falcon": lambda: FalconModel(
        FalconConfig(vocab_size=50, hidden_size=64, num_hidden_layers=2, num_attention_heads=4)
    ),
    "BART": lambda: BartModel(
        BartConfig(
            vocab_size=50, d_model=64, encoder_layers=1, decoder_layers=1, encoder_attention_heads=4,
            decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64, max_position_embeddings=64,
            scale_embedding=True,
        )
    ),
    "Gemma 3": lambda: Gemma3ForCausalLM(
        Gemma3TextConfig(
            vocab_size=500, hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, head_dim=16, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        )
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ["int8-dynamic", "weight-only-8"])
@pytest.mark.parametrize("make", FAMILIES.values(), ids=FAMILIES)
def test_families_with_classes_of_their_own_get_small_and_stay_right(make, name, tmp_path):
    with seeded(0):
        model = make().eval()
    inputs = Inputs(kwargs={"input_ids": IDS})
    changed = parse_technique(name).apply(model)
    before, after = run(model, inputs), run(changed, inputs)
    assert fidelity(before.double(), after.double())["sqnr"] > 30
    ratio = count_stored(model).size_bytes / count_stored(changed).size_bytes
    assert ratio > 2.8, ratio
    assert torch.equal(run(load(save(changed, tmp_path / "saved")), inputs), after)
    changed.save_pretrained(tmp_path / "theirs")
    assert torch.equal(run(load(tmp_path / "theirs"), inputs), after)


@pytest.mark.parametrize("broken", [{"alike": 5}, {"in_float": [3]}, {"alike": "0"}])
def test_a_broken_record_is_refused(broken):
    with pytest.raises(StorageError, match="broken"):
        parse_technique("int8-dynamic").skeleton(nn.Linear(2, 2), broken)


def test_a_whole_model_is_pickled():
    changed = quantize_model(nn.Sequential(Scaled(50, 8), nn.Linear(8, 8), nn.Embedding(4, 4)))
    buffer = io.BytesIO()
    torch.save(changed, buffer)
    buffer.seek(0)
    again = torch.load(buffer, weights_only=False)
    assert torch.equal(again[0](IDS), changed[0](IDS))
    assert not any(isinstance(layer, PackedLinear) for layer in again)
