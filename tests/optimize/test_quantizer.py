import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from perfsuite import (
    DynamicQuantizer,
    Int8Dynamic,
    Int8Static,
    QuantizationConfig,
    StaticQuantizer,
    WeightOnly,
    quantize_model,
    unchecked,
)
from perfsuite.errors import TechniqueError, UsageError
from perfsuite.measure.outputs import fidelity
from perfsuite.models.encoder import TransformerEncoder
from perfsuite.models.seeding import seeded
from perfsuite.optimize import quantizer as module
from perfsuite.optimize.sensitivity import sensitivities
from perfsuite.progress import watched
from perfsuite.protocols import Inputs
from perfsuite.storage import count_stored
from perfsuite.techniques.quantization.layers import Int8Linear, StaticInt8Linear
from perfsuite.techniques.quantization.packing import PackedLinear
from perfsuite.techniques.recorded import provenance
from perfsuite.testing.contract import run, state_bytes

TOKENS = torch.arange(14).reshape(2, 7)


def encoder():
    with seeded(0):
        return TransformerEncoder(50, 16, 4, 2, 32, dropout=0.0, max_seq_length=16, num_classes=3).eval()


def kinds(model):
    return {type(module) for module in model.modules()} & {Int8Linear, StaticInt8Linear, PackedLinear, nn.Linear}


def planted():
    """Three layers; one huge weight in each row of the second, on an input that is always 0, spoils its grid."""
    with seeded(0):
        model, x = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)), torch.randn(64, 16)
    with torch.no_grad():
        model[0].weight[0] = model[0].bias[0] = 0
        model[1].weight[:, 0] = 1000
    expected = run(model, Inputs((x,))).double()
    return model, x, lambda candidate: fidelity(expected, run(candidate, Inputs((x,))).double())["sqnr"]


def test_the_documented_dynamic_example_works():
    model = encoder()
    config = QuantizationConfig(
        quantization_type="dynamic", dtype=torch.qint8, bits=8, quantize_weights=True, quantize_activations=False
    )
    quantizer = DynamicQuantizer(model, config)
    quantized = quantizer.optimize()
    assert kinds(quantized) == {Int8Linear}
    assert quantizer.get_size_info()["compression_ratio"] > 1
    assert state_bytes(quantized) == state_bytes(Int8Dynamic().apply(model))
    assert kinds(model) == {nn.Linear}


def test_the_documented_static_example_works():
    loader = DataLoader(TensorDataset(TOKENS, torch.zeros(2)), batch_size=1)
    quantizer = StaticQuantizer(encoder(), calibration_loader=loader)
    quantized = quantizer.optimize()
    assert kinds(quantized) == {StaticInt8Linear}
    assert provenance(quantized)[0].data.startswith("2 batches")
    assert quantizer.get_size_info()["technique"] == "int8-static"


def test_the_documented_call_without_data_says_what_it_needs():
    with pytest.raises(TechniqueError, match="needs calibration data"):
        quantize_model(encoder(), quantization_type="static", bits=8)
    with pytest.raises(TechniqueError, match="needs calibration data"):
        StaticQuantizer(encoder()).optimize()


@pytest.mark.parametrize("bits", [2, 4, 7])
def test_fewer_bits_are_packed_weights(bits):
    quantizer = DynamicQuantizer(encoder(), QuantizationConfig(bits=bits, group_size=8))
    assert kinds(quantizer.optimize()) == {PackedLinear}
    assert quantizer.get_size_info()["technique"] == f"weight-only-{bits}-g8"


def test_the_sizes_are_those_of_the_files():
    model = encoder()
    quantizer = DynamicQuantizer(model)
    quantized = quantizer.optimize()
    info = quantizer.get_size_info()
    before, after = count_stored(model).size_bytes, count_stored(quantized).size_bytes
    assert (info["original_bytes"], info["quantized_bytes"]) == (before, after)
    assert info["compression_ratio"] == before / after
    assert info["original_size"] != info["quantized_size"]
    assert info["kernel"] in ("fused", "onednn", "int_mm", "blocked")
    assert info["excluded"] == ()


def test_sizes_of_nothing_are_refused():
    with pytest.raises(UsageError, match="nothing was quantized yet"):
        DynamicQuantizer(encoder()).get_size_info()


def test_configs_become_techniques():
    some = {"include": ["layers"], "exclude": ["layers.0"]}
    both = (("layers",), ("layers.0",))
    assert QuantizationConfig(per_token=False, per_channel=False, embeddings=False, **some).technique() == Int8Dynamic(
        False, False, False, *both
    )
    assert QuantizationConfig("static", ranges="mse", percentile=0.99, **some).technique() == Int8Static(
        "mse", 0.99, True, True, *both
    )
    assert QuantizationConfig(bits=3, group_size=7, **some).technique() == WeightOnly(3, 7, True, *both)


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"quantization_type": "qat"}, "unknown quantization_type 'qat'"),
        ({"dtype": torch.float16}, "is no int8"),
        ({"dtype": torch.quint8}, "is no int8"),
        ({"quantize_weights": False}, "leaves nothing to do"),
        ({"quantize_activations": True}, "dynamic quantization does not store ranges"),
        ({"quantization_type": "static", "quantize_activations": False}, "static quantization stores ranges"),
        ({"quantization_type": "static", "bits": 4}, "static quantization at 4 bits"),
        ({"bits": 1}, "1 bits are not possible"),
        ({"bits": 16}, "16 bits are not possible"),
        ({"bits": 4, "group_size": 0}, "group_size is 0"),
        ({"quantization_type": "static", "ranges": "entropy"}, "unknown ranges"),
        ({"quantization_type": "static", "percentile": 0.1}, "percentile 0.1"),
        ({"fallback": "cpu"}, "unknown fallback"),
    ],
)
def test_configs_that_mean_nothing_are_refused_when_they_are_made(fields, what):
    with pytest.raises(UsageError, match=what):
        QuantizationConfig(**fields)


def test_a_quantizer_refuses_the_config_of_the_other():
    with pytest.raises(UsageError, match="use StaticQuantizer"):
        DynamicQuantizer(encoder(), QuantizationConfig("static"))
    with pytest.raises(UsageError, match="use DynamicQuantizer"):
        StaticQuantizer(encoder(), QuantizationConfig("dynamic"))


def test_one_call():
    assert kinds(quantize_model(encoder())) == {Int8Linear}
    assert kinds(quantize_model(encoder(), bits=4)) == {PackedLinear}
    assert kinds(quantize_model(encoder(), "static", calibration_loader=[TOKENS])) == {StaticInt8Linear}
    assert kinds(quantize_model(encoder(), exclude=("layers",))) == {Int8Linear, nn.Linear}
    with pytest.raises(UsageError, match=r"quantize_model: .*'bitz'"):
        quantize_model(encoder(), bitz=4)


def test_the_most_sensitive_layer_is_the_planted_one():
    model, x, _ = planted()
    for technique in (Int8Dynamic(), Int8Static(), WeightOnly(8, 16)):
        ranked = sensitivities(model, technique, [x])
        assert set(ranked) == {"0", "1", "2"}
        assert min(ranked, key=ranked.get) == "1"


@pytest.mark.parametrize("kind", ["dynamic", "static"])
def test_a_floor_leaves_the_most_sensitive_layer_in_float(kind):
    model, x, score = planted()
    config = QuantizationConfig(kind, accuracy_floor=30.0)
    quantizer = (
        DynamicQuantizer(model, config, data=iter([x]), score=score)
        if kind == "dynamic"
        else StaticQuantizer(model, config, iter([x]), score=score)
    )
    told = []
    with watched(lambda *step: told.append(step)):
        result = quantizer.optimize()
    assert [type(layer) is nn.Linear for layer in result] == [False, True, False]
    with unchecked():
        assert score(result) >= 30 > score(config.technique().apply(model, data=[x]))
    assert quantizer.get_size_info()["excluded"] == ("1",)
    assert list(provenance(result)[0].config["exclude"]) == ["1"]
    assert ("measuring the sensitivity of layers", 3, 3) in told
    assert ("excluding sensitive layers", 1, 2) in told


def test_a_floor_that_holds_already_excludes_nothing_and_needs_no_data():
    model, _, score = planted()
    quantizer = DynamicQuantizer(model, QuantizationConfig(accuracy_floor=-100.0), score=score)
    assert kinds(quantizer.optimize()) == {Int8Linear}
    assert quantizer.get_size_info()["excluded"] == ()


def test_a_floor_that_cannot_be_reached_is_refused():
    model, x, score = planted()
    before = state_bytes(model)
    with pytest.raises(TechniqueError, match="below the floor of 1000"):
        DynamicQuantizer(model, QuantizationConfig(accuracy_floor=1000.0), data=[x], score=score).optimize()
    assert state_bytes(model) == before


def test_a_floor_needs_a_score_and_data():
    model, _, score = planted()
    with pytest.raises(UsageError, match="needs a score"):
        DynamicQuantizer(model, QuantizationConfig(accuracy_floor=1.0)).optimize()
    with pytest.raises(TechniqueError, match="needs calibration data"):
        DynamicQuantizer(model, QuantizationConfig(accuracy_floor=30.0), score=score).optimize()


@pytest.fixture
def no_kernel(monkeypatch):
    monkeypatch.setattr(module, "kernel_name", lambda device: "blocked")


def test_without_a_fast_kernel_the_portable_one_or_half_precision(no_kernel):
    portable = DynamicQuantizer(encoder())
    assert kinds(portable.optimize()) == {Int8Linear}
    assert portable.get_size_info()["kernel"] == "blocked"
    half = DynamicQuantizer(encoder(), QuantizationConfig(fallback="fp16"))
    assert {p.dtype for p in half.optimize().parameters()} == {torch.float16}
    assert half.get_size_info()["technique"] == "fp16"
    packed = DynamicQuantizer(encoder(), QuantizationConfig(fallback="fp16", bits=4))
    assert kinds(packed.optimize()) == {PackedLinear}


def test_with_a_fast_kernel_the_fallback_is_not_used(monkeypatch):
    monkeypatch.setattr(module, "kernel_name", lambda device: "int_mm")
    assert kinds(quantize_model(encoder(), fallback="fp16")) == {Int8Linear}


def test_the_fallback_is_held_to_the_floor_too(no_kernel):
    config = QuantizationConfig(fallback="fp16", accuracy_floor=0.5)
    with pytest.raises(TechniqueError, match="below the floor"):
        DynamicQuantizer(encoder(), config, data=[TOKENS], score=lambda model: 0.0).optimize()


def test_what_cannot_be_quantized_is_refused():
    for model in (nn.ReLU(), Int8Dynamic().apply(encoder())):
        with pytest.raises(TechniqueError):
            DynamicQuantizer(model).optimize()
