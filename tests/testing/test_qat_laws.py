"""Each law of quantization-aware training is seen to catch the faults that it is about, planted in ours."""

import contextlib
from dataclasses import replace

import pytest
import torch

from perfsuite import Int8Dynamic, Int8Static, TransformerEncoder, WeightOnly, convert_qat, prepare_qat
from perfsuite.models.seeding import seeded
from perfsuite.protocols import Inputs
from perfsuite.techniques.fake_quantized import fake_quantized
from perfsuite.techniques.quantization import kernels
from perfsuite.techniques.quantization.layers import Int8Linear
from perfsuite.techniques.quantization.qat import grids
from perfsuite.techniques.quantization.qat.layers import FakeLinear
from perfsuite.techniques.recorded import provenance, write_provenance
from perfsuite.testing import QAT_LAWS, Qat, qat
from perfsuite.testing.strategies import Sample, TiedClassifier


def sample():
    with seeded(0):
        model = TransformerEncoder(50, 16, 4, 2, 32, dropout=0.0, max_seq_length=16).eval()
        return Sample(model, Inputs((torch.randint(0, 50, (2, 5)),)), "encoder")


def tied():
    with seeded(0):
        return Sample(TiedClassifier(30, 8).eval(), Inputs((torch.randint(0, 30, (2, 5)),)), "tied")


def linear_layers(model):
    return [layer for layer in fake_quantized(model).values() if isinstance(layer, FakeLinear)]


def prepares_with(spoil):
    """Our way, with one fault planted in what it prepares: ``spoil(prepared, model)``."""

    def prepare(model, technique, data):
        prepared = prepare_qat(model, technique, data)
        with torch.no_grad():
            return spoil(prepared, model) or prepared

    return {"prepare": prepare}


def converts_with(spoil):
    def convert(prepared):
        converted = convert_qat(prepared)
        with torch.no_grad():
            return spoil(converted, prepared) or converted

    return {"convert": convert}


def never_on(prepared, model):
    for layer in fake_quantized(prepared).values():
        layer.fakes = False


def writes_to_the_model(prepared, model):
    next(model.parameters()).add_(1)


def is_the_prepared_one(converted, prepared):
    next(prepared.parameters()).mul_(2)


def unties(prepared, model):
    prepared.output._parameters["weight"] = torch.nn.Parameter(prepared.output._parameters["weight"].clone())


def one_scale_for_all(prepared, model):
    for layer in linear_layers(prepared):
        layer.weight_grid = grids.as_one


def coarser(prepared, model):
    linear_layers(prepared)[0].weight_grid = grids.ByGroups(7, 16)


def leaves_activations_in_float(prepared, model):
    linear_layers(prepared)[0].seen = lambda x: x


def one_grid_for_all_tokens(prepared, model):
    linear_layers(prepared)[0].per_token = False


def gives_no_gradient(prepared, model):
    layer = linear_layers(prepared)[0]
    seen = layer.seen
    layer.seen = lambda x: seen(x.detach()) + 0 * x


def gives_gradients_beyond_the_ends(prepared, model):
    layer = linear_layers(prepared)[0]
    layer.seen = lambda x: grids.straight_through(x, grids.fake_fixed(x.detach(), layer.input_scale, layer.input_zero))


def observes_in_eval(prepared, model):
    for layer in linear_layers(prepared):
        layer.register_forward_pre_hook(widen)


def widen(layer, args):
    layer.input_scale.copy_(torch.maximum(layer.input_scale, args[0].detach().abs().max() / 127))


def counts_calls(prepared, model):
    prepared.register_buffer("calls", torch.zeros(()))
    prepared.register_forward_hook(lambda module, *rest: module.calls.add_(1))


def loses_ranges(converted, prepared):
    for layer in converted.modules():
        if isinstance(layer, Int8Linear):
            layer.input_scale.mul_(1.5)


def has_one_scale(converted, prepared):
    """As a technique with one scale for each layer would make it."""
    other = replace(Int8Dynamic(), per_channel=False)
    return other.apply(sample().model)


def has_more(converted, prepared):
    converted.register_buffer("observer", torch.zeros(3))


def forgets_the_record(converted, prepared):
    write_provenance(converted, provenance(converted)[:-1])


STATIC, DYNAMIC, PACKED = Int8Static(), Int8Dynamic(), WeightOnly(4, 16)
FAULTS = [
    (qat.leaves_models_untouched, DYNAMIC, prepares_with(writes_to_the_model)),
    (qat.leaves_models_untouched, DYNAMIC, converts_with(is_the_prepared_one)),
    (qat.keeps_names_and_ties, DYNAMIC, prepares_with(unties)),
    (qat.off_is_the_float_model, STATIC, {"off": contextlib.nullcontext}),
    (qat.off_is_the_float_model, STATIC, prepares_with(never_on)),
    (qat.untrained_is_post_training, DYNAMIC, converts_with(has_one_scale)),
    (qat.untrained_is_post_training, STATIC, converts_with(loses_ranges)),
    (qat.trains_on_the_weights_that_are_deployed, DYNAMIC, prepares_with(one_scale_for_all)),
    (qat.trains_on_the_weights_that_are_deployed, DYNAMIC, prepares_with(coarser)),
    (qat.trains_on_the_weights_that_are_deployed, PACKED, prepares_with(never_on)),
    (qat.computes_what_is_deployed, DYNAMIC, prepares_with(leaves_activations_in_float)),
    (qat.computes_what_is_deployed, DYNAMIC, prepares_with(one_grid_for_all_tokens)),
    (qat.computes_what_is_deployed, STATIC, prepares_with(leaves_activations_in_float)),
    (qat.computes_what_is_deployed, STATIC, converts_with(loses_ranges)),
    (qat.gradients_pass_straight_through, DYNAMIC, prepares_with(gives_no_gradient)),
    (qat.gradients_pass_straight_through, STATIC, prepares_with(gives_gradients_beyond_the_ends)),
    (qat.eval_moves_nothing, STATIC, prepares_with(observes_in_eval)),
    (qat.eval_moves_nothing, DYNAMIC, prepares_with(counts_calls)),
    (qat.writes_the_same_file, DYNAMIC, converts_with(has_more)),
    (qat.writes_the_same_file, DYNAMIC, converts_with(forgets_the_record)),
]


@pytest.mark.parametrize(("law", "technique", "fault"), FAULTS, ids=lambda part: getattr(part, "__name__", ""))
def test_a_fault_is_caught(law, technique, fault):
    drawn = tied if law is qat.keeps_names_and_ties else sample
    law(Qat(technique), drawn())
    with pytest.raises(AssertionError):
        law(Qat(technique, **fault), drawn())


def test_rounding_without_a_gradient_is_caught(monkeypatch):
    monkeypatch.setattr(grids, "straight_through", lambda x, values, inside=None: values + 0 * x.detach())
    with pytest.raises((AssertionError, RuntimeError), match=r"gradient|does not require grad"):
        qat.gradients_pass_straight_through(Qat(DYNAMIC), sample())


def test_a_kernel_that_saturates_is_caught(monkeypatch):
    law = qat.answers_alike_on_all_kernels
    law(Qat(STATIC), sample())
    exact = kernels.blocked_matmul
    monkeypatch.setattr(kernels, "blocked_matmul", lambda a, b: exact(a, b).clamp(-(2**14), 2**14))
    with pytest.raises(AssertionError, match="as it is deployed"):
        law(Qat(STATIC), sample())


def test_every_law_has_its_planted_fault():
    assert {law for law, *_ in FAULTS} | {qat.answers_alike_on_all_kernels} == {*QAT_LAWS}
