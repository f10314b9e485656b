"""Each law of a family is seen to catch the defect that it is about, planted in our own technique."""

import copy
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from perfsuite import Int8Dynamic, Magnitude, Precision, Structured, TransformerEncoder, WeightOnly
from perfsuite.models.seeding import seeded
from perfsuite.protocols import Inputs
from perfsuite.techniques.pruning.groups import find_groups
from perfsuite.techniques.pruning.zeros import parameters_to_prune
from perfsuite.techniques.quantization.layers import Int8Linear
from perfsuite.testing import MAGNITUDE_LAWS, PRECISION_LAWS, QUANTIZATION_LAWS, STRUCTURED_LAWS, pruning, quantization
from perfsuite.testing.strategies import Sample


def sample():
    with seeded(0):
        model = TransformerEncoder(50, 16, 4, 2, 32, dropout=0.0, max_seq_length=16).eval()
        return Sample(model, Inputs((torch.randint(0, 50, (2, 5)),)), "encoder")


def spoiled(technique, spoil):
    """The technique, with one defect planted in its result: ``spoil(result, model)``."""

    @dataclass(frozen=True)
    class Spoiled(type(technique)):
        def apply(self, model, *, data=None):
            result = super().apply(model, data=data)
            with torch.no_grad():
                return spoil(result, model) or result

    return Spoiled(**technique.__dict__)


def first(model):
    return next(iter(parameters_to_prune(model).values()))


def one_zero_more(result, model):
    weight = first(result)
    weight.view(-1)[weight.flatten().nonzero()[0]] = 0


def kept_drift(result, model):
    first(result).mul_(1 + 1e-6)


def prunes_the_largest(result, model):
    new, old = first(result), first(model)
    biggest = old.abs().flatten().argmax()
    back = (new == 0).flatten().nonzero()[0]
    new.view(-1)[biggest], new.view(-1)[back] = 0, old.view(-1)[back]


def prunes_again_each_time(result, model):
    """Takes another weight at each run, as a threshold on what is left would."""
    one_zero_more(result, model) if bool((first(model) == 0).any()) else None


class AtRandom:
    """Prunes the right number of weights, but other ones at each sparsity and scale."""

    def __init__(self):
        self.calls = 0

    def __call__(self, result, model):
        self.calls += 1
        generator = torch.Generator().manual_seed(self.calls)
        new, old = first(result), first(model)
        order = torch.randperm(new.numel(), generator=generator)
        mask = torch.zeros(new.numel(), dtype=torch.bool)
        mask[order[: int((new == 0).sum())]] = True
        new.copy_(old.masked_fill(mask.view_as(new), 0))


MAGNITUDE_DEFECTS = {
    pruning.zeros_are_exactly_as_many_as_asked: one_zero_more,
    pruning.kept_weights_are_untouched_and_not_smaller: prunes_the_largest,
    pruning.pruning_twice_is_pruning_once: prunes_again_each_time,
    pruning.more_sparsity_prunes_a_superset: AtRandom(),
    pruning.the_mask_ignores_the_scale: AtRandom(),
}


@pytest.mark.parametrize("law", MAGNITUDE_DEFECTS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("scope", ["local", "global"])
def test_magnitude(law, scope):
    technique = Magnitude(0.5, scope)
    law(technique, sample())
    with pytest.raises(AssertionError):
        law(spoiled(technique, MAGNITUDE_DEFECTS[law]), sample())


def test_kept_values_that_drift_are_caught():
    law = pruning.kept_weights_are_untouched_and_not_smaller
    with pytest.raises(AssertionError, match="have changed"):
        law(spoiled(Magnitude(0.5), kept_drift), sample())


def test_zeros_that_an_optimizer_moves_are_caught(monkeypatch):
    """Without the mask, momentum and weight decay move them."""
    import contextlib

    law = pruning.zeros_survive_fine_tuning
    law(Magnitude(0.5), sample())
    monkeypatch.setattr(pruning, "keep_zeros", contextlib.nullcontext)
    with pytest.raises(AssertionError, match="zeros moved"):
        law(Magnitude(0.5), sample())


def shifts_the_output(result, model):
    result.layers[0].attention.output.bias[0] += 0.1


def one_unit_too_many(result, model):
    group = find_groups(result)[1]
    group.keep(torch.arange(group.count - 1))


def pads_with_a_parameter(result, model):
    result.extra = nn.Parameter(torch.zeros(7))


def forgets_the_config(result, model):
    result.config = model.config


def keeps_the_first(result, model):
    """By position and not by importance."""
    small = copy.deepcopy(model)
    for group, target in zip(find_groups(small), find_groups(result), strict=True):
        group.keep(torch.arange(target.count))
    small.sync_config()
    return small


STRUCTURED_DEFECTS = {
    pruning.equals_the_masked_model: shifts_the_output,
    pruning.drops_what_the_units_owned: pads_with_a_parameter,
    pruning.one_of_each_stays: one_unit_too_many,
    pruning.configs_agree_with_shapes: forgets_the_config,
    pruning.ignores_the_order_of_units: keeps_the_first,
}


@pytest.mark.parametrize("law", STRUCTURED_DEFECTS, ids=lambda law: law.__name__)
def test_structured(law):
    technique = Structured(0.5, 0.5)
    law(technique, sample())
    with pytest.raises(AssertionError):
        law(spoiled(technique, STRUCTURED_DEFECTS[law]), sample())


def layer_of(result):
    return next(module for module in result.modules() if isinstance(module, Int8Linear))


def off_by_one(result, model):
    layer_of(result).codes[0, 0] += 2


def no_exact_zero(result, model):
    layer = layer_of(result)
    layer.codes[layer.codes == 0] = 1


def drifts(result, model):
    layer_of(result).scale.mul_(1.01)


def one_scale_for_all(result, model):
    layer_of(result).quantize = lambda x: quantization_per_tensor(x)


def quantization_per_tensor(x):
    from perfsuite.techniques.quantization.grid import affine_rows

    return affine_rows(x, per_token=False)


def stale_sums(result, model):
    layer = layer_of(result)
    operands = layer.operands()
    layer.operands = lambda: operands._replace(sums=operands.sums + 5)


QUANTIZATION_DEFECTS = {
    quantization.weights_are_within_half_a_step: off_by_one,
    quantization.zeros_stay_zeros: no_exact_zero,
    quantization.quantized_weights_are_a_fixed_point: drifts,
    quantization.a_row_does_not_depend_on_the_others: one_scale_for_all,
    quantization.the_product_is_that_of_the_dequantized: stale_sums,
}


@pytest.mark.parametrize("law", QUANTIZATION_DEFECTS, ids=lambda law: law.__name__)
def test_quantization(law):
    technique = Int8Dynamic()
    law(technique, sample())
    with pytest.raises(AssertionError):
        law(spoiled(technique, QUANTIZATION_DEFECTS[law]), sample())


def test_codes_that_are_not_packed_are_caught():
    """One byte for each 4-bit code is twice the file."""

    def unpacked(result, model):
        for module in result.modules():
            if hasattr(module, "codes"):
                module.codes = module.codes.repeat(1, 2)

    def large():
        with seeded(0):
            return Sample(nn.Sequential(nn.Linear(256, 256)), Inputs((torch.randn(1, 256),)), "linear")

    law = quantization.the_file_is_that_small
    law(WeightOnly(4), large())
    with pytest.raises(AssertionError, match="were to be expected"):
        law(spoiled(WeightOnly(4), unpacked), large())


def rounds_twice(result, model):
    for p in result.parameters():
        p.copy_(p.float().mul(1.01))


def another_function(result, model):
    result.layers[0].attention_norm.weight.mul_(-3)


def leaves_autocast_on(result, model):
    def forward(*args):
        torch.set_autocast_enabled("cpu", True)
        return model(*args)

    result.forward = forward


PRECISION_DEFECTS = {
    quantization.weights_are_within_relative_error: rounds_twice,
    quantization.outputs_are_close: another_function,
    quantization.autocast_is_left_as_it_was: leaves_autocast_on,
}


@pytest.mark.parametrize("law", PRECISION_DEFECTS, ids=lambda law: law.__name__)
def test_precision(law):
    technique = Precision("bf16")
    law(technique, sample())
    try:
        with pytest.raises(AssertionError):
            law(spoiled(technique, PRECISION_DEFECTS[law]), sample())
    finally:
        torch.set_autocast_enabled("cpu", False)


def test_every_law_has_its_planted_defect():
    by_other_means = {pruning.zeros_survive_fine_tuning, quantization.the_file_is_that_small}
    planted = {*MAGNITUDE_DEFECTS, *STRUCTURED_DEFECTS, *QUANTIZATION_DEFECTS, *PRECISION_DEFECTS} | by_other_means
    assert planted == {*MAGNITUDE_LAWS, *STRUCTURED_LAWS, *QUANTIZATION_LAWS, *PRECISION_LAWS}
