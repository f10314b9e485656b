"""A technique that promises fidelity looks at what it has made: answers far off are an error that names the layer."""

import ast
import itertools
import random
import re

import numpy as np
import pytest
import torch
import transformers as tf
from torch import nn
from transformers.models.qwen2_audio.configuration_qwen2_audio import Qwen2AudioEncoderConfig
from transformers.models.qwen2_audio.modeling_qwen2_audio import Qwen2AudioEncoder

from perfsuite import Inputs, Int8Dynamic, parse_technique, provenance, quantize_model, unchecked
from perfsuite.errors import TechniqueError
from perfsuite.techniques.blame import Blame, typed
from perfsuite.techniques.comparing import answers, decibels
from perfsuite.techniques.fidelity import Fidelity, FidelityWarning
from perfsuite.techniques.recorded import Digested
from perfsuite.techniques.replaced import Layer, put, replaced
from perfsuite.techniques.visiting import visited
from perfsuite.testing.contract import state_bytes
from tests.techniques.small import bert, encoder, ids, mlp, randn, tokens

CALLS = itertools.count()


class Deaf(nn.Module):
    """Reads what a layer stores and not what it computes: codes are no floats, wherever they stand."""

    def __init__(self, layers=3, deaf=(1,)):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(layers))
        self.deaf = deaf

    def forward(self, x):
        seen = []
        for number, layer in enumerate(self.layers):
            seen.append(layer(x).relu())
            if number in self.deaf:
                stored = next(t for t in layer.state_dict().values() if t.shape == (8, 8))
                seen[-1] = x @ stored.to(x.dtype).t()
            x = seen[-1]
        return torch.stack(seen)


class Raising(Deaf):
    """As DeBERTa: the first call fails."""

    def forward(self, x):
        stored = next(t for t in self.layers[1].state_dict().values() if t.shape == (8, 8))
        return x @ stored.t() + self.layers[0](x)


def fidelity(technique, model, data=None):
    technique = parse_technique(technique) if isinstance(technique, str) else technique
    return provenance(technique.apply(model, data=data))[-1].fidelity


def mamba2():
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 16, "num_heads": 8, "head_dim": 8}
    return tf.Mamba2Model(tf.Mamba2Config(vocab_size=100, n_groups=1, **sizes)).eval()


def layoutlmv3():
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    boxes = {"coordinate_size": 5, "shape_size": 6, "input_size": 32, "patch_size": 16}
    return tf.LayoutLMv3Model(tf.LayoutLMv3Config(vocab_size=100, initializer_range=0.3, **sizes, **boxes)).eval()


def qwen2_audio():
    sizes = {"d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 64}
    return Qwen2AudioEncoder(Qwen2AudioEncoderConfig(num_mel_bins=16, max_source_positions=30, **sizes)).eval()


def prophetnet():
    encoder_sizes = {"encoder_ffn_dim": 64, "num_encoder_layers": 2, "num_encoder_attention_heads": 4}
    decoder_sizes = {"decoder_ffn_dim": 64, "num_decoder_layers": 2, "num_decoder_attention_heads": 4}
    sizes = {"vocab_size": 100, "hidden_size": 32, "max_position_embeddings": 64}
    return tf.ProphetNetModel(tf.ProphetNetConfig(**sizes, **encoder_sizes, **decoder_sizes)).eval()


FAMILIES = {
    mamba2: lambda: Inputs(kwargs={"input_ids": torch.arange(24).reshape(2, 12)}),
    layoutlmv3: lambda: Inputs(kwargs={"input_ids": torch.arange(24).reshape(2, 12) + 2}),
    qwen2_audio: lambda: Inputs(kwargs={"input_features": randn(2, 16, 60)}),
    prophetnet: lambda: Inputs(kwargs={k: torch.arange(24).reshape(2, 12) for k in ("input_ids", "decoder_input_ids")}),
}


@pytest.mark.parametrize("make", FAMILIES, ids=lambda make: make.__name__)
def test_families_that_were_wrong_in_silence_are_right_or_an_error_with_a_remedy(make):
    torch.manual_seed(0)
    model = make()
    try:
        result = quantize_model(model)
    except TechniqueError as error:
        result = quantize_model(model, exclude=ast.literal_eval(re.search(r"exclude=(\(.*\))", error.remedy)[1]))
    with visited(model, result):
        assert decibels(answers(model, FAMILIES[make]()), answers(result, FAMILIES[make]())) > 30
    assert provenance(result)[-1].fidelity.decibels > 25


@pytest.mark.parametrize("technique", ["int8-dynamic", "int8-dynamic-tensor", "int8-static", "weight-only-8"])
def test_what_reads_stored_codes_is_an_error_that_names_the_layer_as_it_must_be_typed(technique):
    model, data = Deaf(), [randn(4, 8)]
    before = state_bytes(model)
    with pytest.raises(TechniqueError, match=r"dB, and (12|25) are promised, on the first batch of the data") as told:
        parse_technique(technique).apply(model, data=data)
    assert "to blame: 'layers.1'" in told.value.what
    assert "exclude=('layers.1',)" in told.value.remedy
    assert state_bytes(model) == before
    assert fidelity(Int8Dynamic(exclude=("layers.1",)), model, data).decibels > 25


class DeafToSome(Deaf):
    """Right on some inputs, and wrong on others."""

    def forward(self, x):
        self.deaf = (1,) if x.mean() > 0 else ()
        return super().forward(x)


@pytest.mark.parametrize("technique", ["int8-dynamic", "int8-static"])
def test_a_few_batches_are_looked_at_until_one_is_bad(technique):
    torch.manual_seed(0)
    good, bad = -randn(4, 8).abs(), randn(4, 8).abs()
    with pytest.raises(TechniqueError, match=r"on the third batch of the data; to blame: 'layers\.1'"):
        parse_technique(technique).apply(DeafToSome(), data=iter([good, good, bad, good]))
    fifth = Int8Dynamic().apply(DeafToSome(), data=[*[good] * 4, bad])
    assert provenance(fifth)[-1].fidelity.on.endswith("batch of the data")


def test_the_worst_of_a_few_batches_is_said():
    class Shaped(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(8, 8)

        def forward(self, x):
            return self.linear(x) + 10 * (x.mean() > 0)

    torch.manual_seed(0)
    near, far = randn(4, 8).abs(), -randn(4, 8).abs()
    found = fidelity("int8-dynamic", Shaped(), [near, near, far, near, torch.zeros(4, 9)])
    assert found.on == "the third batch of the data"
    assert fidelity("int8-dynamic", Shaped(), [near, near]).decibels > found.decibels + 6


def test_batches_that_a_model_does_not_take_are_passed_over():
    assert fidelity("int8-dynamic", mlp(8, 8), [randn(4, 8), randn(4, 9), randn(4, 8)]).decibels > 30


def test_a_first_call_that_fails_is_an_error_that_names_the_layer():
    with pytest.raises(TechniqueError, match=r"cannot be called: .*; to blame: 'layers.1'") as told:
        Int8Dynamic().apply(Raising(2), data=[randn(4, 8)])
    assert "exclude=('layers.1',)" in told.value.remedy


def test_several_layers_are_found_and_many_are_a_pattern_that_takes_no_other_along():
    with pytest.raises(TechniqueError) as told:
        Int8Dynamic().apply(Deaf(7, deaf=(1, 4)), data=[randn(4, 8)])
    assert "exclude=('layers.1', 'layers.4')" in told.value.remedy
    many = [f"layers.{n}.rel" for n in range(12)]
    assert typed(many, ["layers.0.query"]) == ("layers.*.rel",)
    assert typed(many[1:], ["layers.0.rel"]) == tuple(many[1:])
    assert typed(many[:2], []) == ("layers.0.rel", "layers.1.rel")


@pytest.mark.parametrize("bad", [{3}, {0, 7}, {1, 2, 3, 4, 5, 6, 7}, set(range(8))])
def test_a_search_blames_those_and_no_others(bad):
    root, calls = nn.Module(), []
    layers = [Layer(str(n), nn.ReLU(), nn.Tanh(), ((root, str(n)),)) for n in range(8)]
    for layer in layers:
        root.add_module(layer.name, layer.after)

    def run(these):
        calls.append(1)
        put(layers, these)
        changed = {n for n in range(8) if isinstance(root.get_submodule(str(n)), nn.Tanh)}
        return 0.0 if changed & bad else 40.0

    blamed, reached = Blame(layers, run, 25.0).found()
    assert ({int(layer.name) for layer in blamed}, reached) == (bad, 40.0)
    assert len(calls) <= 20


def noisy():
    """Weights whose rows have an outlier each: their grid is coarse, and an honest result is far off."""
    model = mlp(64, 64, 64)
    with torch.no_grad():
        model[0].weight[:, 0] = 5.0
    return model, [randn(8, 64) * (torch.arange(64) > 0)]  # and the outliers meet zeros


@pytest.mark.parametrize("technique", ["int8-dynamic", "int8-static"])
def test_the_noise_of_quantization_itself_is_a_warning_and_no_error(technique):
    """A pretrained MiniLM with its outliers is at 16 to 24 dB on real text, and answers as before."""
    model, data = noisy()
    with pytest.warns(
        FidelityWarning, match=rf"{technique} of the Sequential is at 1\d\.\d dB on the first batch"
    ) as told:
        result = parse_technique(technique).apply(model, data=data)
    assert [warning.filename for warning in told] == [__file__]
    assert 10 < provenance(result)[-1].fidelity.decibels < 25


@pytest.mark.filterwarnings("ignore::perfsuite.techniques.fidelity.FidelityWarning")
def test_what_is_wrong_is_found_among_noise_and_the_noise_is_not_blamed():
    torch.manual_seed(0)
    model, data = noisy()
    with torch.no_grad():
        model[0].weight[:, 0] = 10.0
    deaf = nn.Sequential(model, nn.Linear(64, 8), Deaf())
    with pytest.raises(TechniqueError) as told:
        Int8Dynamic().apply(deaf, data=data)
    assert "exclude=('2.layers.1',)" in told.value.remedy
    result = Int8Dynamic(exclude=("2.layers.1",)).apply(deaf, data=data)
    assert provenance(result)[-1].fidelity.decibels <= 25  # rounded


def test_noise_that_leaves_nothing_is_an_error_that_names_the_layer():
    model, data = noisy()
    with torch.no_grad():
        model[0].weight[:, 0] = 3000.0
    with pytest.raises(TechniqueError, match="to blame: '0'"):
        Int8Dynamic().apply(model, data=data)


def test_where_no_layer_alone_is_to_blame_the_worst_are_left():
    root = nn.Module()
    layers = [Layer(str(n), nn.ReLU(), nn.Tanh(), ((root, str(n)),)) for n in range(8)]
    worth = [1, 1, 1, 3, 1, 1, 1, 1]
    blamed, reached = Blame(layers, lambda these: 30.0 - sum(worth[int(layer.name)] for layer in these), 22.0).found()
    assert ([layer.name for layer in blamed], reached) == (["3"], 23.0)


def vit():
    """Reads pictures, of a size that its config says."""
    config = tf.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=8, patch_size=4
    )
    return tf.ViTModel(config).eval()


@pytest.mark.parametrize(
    ("model", "data", "on"),
    [
        (bert, [tokens()], "the first batch of the data"),
        (bert, None, "its dummy_inputs"),
        (vit, None, "seeded pixel_values"),
        (lambda: mlp(8, 8, 8), [randn(2, 8)], "the first batch of the data"),
        (lambda: mlp(8, 8, 8), None, "the 2 of 2 layers that could be called for themselves, not on the whole"),
        (lambda: mlp(8, 8, 8), [randn(2, 3)], "not on the whole: it cannot be called on the first batch of the data"),
    ],
)
def test_the_record_says_what_was_seen(model, data, on):
    found = fidelity("int8-dynamic", model(), data)
    assert found.decibels > 30
    assert on in str(found)


def test_what_cannot_be_checked_is_not_claimed():
    attention = nn.Sequential(nn.MultiheadAttention(8, 2))
    found = fidelity("int8-dynamic", attention)
    assert found.decibels is None
    assert str(found) == "not checked: no inputs were given, and it has no dummy_inputs"
    with unchecked():
        assert str(fidelity("int8-dynamic", Deaf(), [randn(4, 8)])) == "not checked: it was switched off"
    assert fidelity("magnitude-50", mlp(8, 8)) is None


class Dice(nn.Module):
    """Two calls differ, whatever is seeded."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x):
        return self.linear(x) + next(CALLS) * x


def test_a_model_whose_calls_differ_is_not_blamed():
    assert str(fidelity("int8-dynamic", Dice(), [randn(2, 8)])) == (
        "not checked: two calls of the model on the first batch of the data differ"
    )


def test_random_numbers_of_a_model_are_the_same_for_both():
    class Noisy(nn.Sequential):
        def forward(self, x):
            return super().forward(x) + torch.rand(()) * 100 + random.random() * 100 + np.random.rand() * 100

    assert fidelity("int8-dynamic", Noisy(nn.Linear(8, 8)), [randn(2, 8)]).decibels > 30


class Touchy(nn.Module):
    """Changes all that a forward pass can change."""

    def __init__(self):
        super().__init__()
        self.linear, self.dropout, self.last = nn.Linear(8, 8), nn.Dropout(0.5), None
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("seen", torch.zeros(8))

    def forward(self, x):
        self.calls += 1
        self.seen = x[0].detach()
        self.last = self.linear(x)
        self.fresh = 1
        torch.rand(1), random.random(), np.random.rand()
        return self.dropout(self.last)


def test_nothing_of_the_model_its_result_or_the_generators_is_changed():
    model = Touchy().train()
    model.dropout.eval()
    hooks = []
    model.linear.register_forward_hook(lambda *_: hooks.append(1))
    before, attributes = state_bytes(model), dict(vars(model))
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    result = Int8Dynamic().apply(model, data=[randn(2, 8)])
    assert provenance(result)[-1].fidelity.decibels > 30
    assert state_bytes(model) == before
    assert vars(model) == attributes
    assert (model.training, model.linear.training, model.dropout.training) == (True, True, False)
    assert (result.training, result.dropout.training, result.last, float(result.calls)) == (True, False, None, 0.0)
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (random.getstate(), np.random.get_state()[1].tolist())
    assert hooks  # it was called


def test_it_keeps_nothing_that_only_calls_need():
    result = Int8Dynamic().apply(encoder(), data=[ids()])
    layer = result.layers[0].feed_forward.expand
    assert layer._prepared._made is None


def test_reading_the_data_for_it_is_no_part_of_the_record():
    read = []
    result = Int8Dynamic().apply(encoder(), data=(read.append(1) or ids() for _ in range(5)))
    assert (len(read), provenance(result)[-1].data) == (4, "")
    assert Digested([ids()]).first().args[0].shape == (2, 5)
    assert Digested(None).first() is None


def test_what_can_be_read_once_is_looked_at_and_read_as_a_whole():
    data = Digested(iter([ids(), ids(), ids()]))
    assert (data.first() is not None, len(data.head(2)), len(data.head(4)), len(list(data))) == (True, 2, 3, 3)
    assert (len(data.head(4)), data.batches) == (3, 3)
    unread = Digested(iter([ids()] * 6))
    assert (len(list(unread)), len(unread.head(4)), unread.batches) == (6, 4, 6)


@pytest.mark.parametrize(("bits", "least"), [(8, 25.0), (4, 0.92), (3, None), (2, None)])
def test_fewer_bits_promise_less(bits, least):
    promise = parse_technique(f"weight-only-{bits}").promise
    assert (promise and promise.least) == (least if least is None else pytest.approx(least))


def test_activations_that_stand_out_are_warned_of_and_are_no_error():
    """One value of 100 in the data makes the grid as wide: as many real models have them."""
    torch.manual_seed(0)
    outlier = randn(4, 8)
    outlier[0, 0] = 100
    with pytest.warns(FidelityWarning, match=r"^int8-static of the Linear is at [12]\d\.\d dB on .* usual: look at"):
        result = parse_technique("int8-static").apply(nn.Linear(8, 8), data=[randn(4, 8), outlier])
    assert 12 < provenance(result)[-1].fidelity.decibels < 25


def test_data_that_set_the_ranges_is_looked_at_with_a_margin():
    """It is not clipped, as other inputs are: 26 dB on it were 24 dB on others, of which nobody was told."""
    torch.manual_seed(0)
    outlier = randn(4, 8)
    outlier[0, 0] = 35
    with pytest.warns(
        FidelityWarning, match=r"inputs that did not set its ranges may be 3 dB further off, where 25 dB"
    ):
        result = parse_technique("int8-static").apply(nn.Linear(8, 8), data=[randn(4, 8), outlier])
    assert 25 < provenance(result)[-1].fidelity.decibels < 28


@pytest.mark.filterwarnings("error::perfsuite.techniques.fidelity.FidelityWarning")
def test_what_sets_no_ranges_has_no_margin():
    parse_technique("int8-dynamic").promise.warn_if_far("int8-dynamic", "Linear", Fidelity(25.1, "data"))


def test_the_output_that_follows_worst_counts():
    a, b = randn(4, 4).double(), randn(4, 4).double()
    assert decibels([a, b], [a, b]) == 300
    assert decibels([a, b], [a, b + 0.1]) == pytest.approx(20 * np.log10(float(b.norm()) / 0.4), abs=1e-6)
    assert decibels([a, b * 1e-9], [a, b * 2e-9]) == 300  # rounding beside the rest
    assert decibels([a], [a[:2]]) == decibels([a], [a * torch.nan]) == -torch.inf
    hidden = torch.where(a > 0, -torch.inf, a)  # a mask of minus infinity
    assert decibels([hidden], [hidden]) == 300


def test_layers_in_two_places_are_put_back_in_both():
    shared = nn.Linear(4, 4)
    model = nn.Sequential(shared, nn.ReLU(), shared)
    with unchecked():
        result = Int8Dynamic().apply(model)
    (layer,) = replaced(model, result)
    assert [key for _, key in layer.places] == ["0", "2"]
    put([layer], [])
    assert result[0] is result[2] is shared


def test_infos_say_it():
    from perfsuite import DynamicQuantizer

    quantizer = DynamicQuantizer(bert())
    quantizer.optimize()
    assert re.fullmatch(r"int8-dynamic: \d\d\.\d dB on its dummy_inputs", quantizer.get_size_info()["fidelity"])
    assert str(Fidelity(None, "why")) == "not checked: why"
