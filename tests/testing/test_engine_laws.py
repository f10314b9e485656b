"""Each law of runtimes that models are exported to is seen to catch the fault that it is about."""

import itertools
from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

import msgspec
import pytest
import torch
from torch import nn

from perfsuite.models.encoder import TransformerEncoder
from perfsuite.protocols import Inputs
from perfsuite.runtimes.exported import ExportedCall
from perfsuite.techniques.common import replace_modules
from perfsuite.techniques.quantization.int8_static import Int8Static
from perfsuite.techniques.quantization.layers import Int8Linear
from perfsuite.testing import (
    INTEGER_LAWS,
    PROBE_LAWS,
    SHAPE_LAWS,
    ExportedContract,
    integers,
    models,
    probes,
    shapes,
)
from perfsuite.testing.runtimes import agree
from perfsuite.testing.strategies import Sample
from tests.testing.engine import Engine


class TestEngine(ExportedContract):
    runtime = Engine()
    samples = models(["MLP", "tied", "masked encoder"], dtypes=[torch.float32], training=False)
    max_examples = 3


def test_an_optimizer_that_changes_answers_is_caught(monkeypatch):
    plain, optimized = Engine(), Engine(run=lambda run: lambda tensors: [0.999 * output for output in run(tensors)])
    agree(plain, Engine(), encoder())
    with pytest.raises(AssertionError, match=r"the answers are .* apart"):
        agree(plain, optimized, encoder())


def encoder():
    torch.manual_seed(0)
    model = TransformerEncoder(50, 16, 4, 1, 20, dropout=0.0, max_seq_length=16, num_classes=3).eval()
    return Sample(model, Inputs((torch.randint(0, 50, (2, 5)),)), "an encoder")


def freezes_the_batch(run):
    """Two examples are computed, whatever is given; the rest is one of them again."""

    def frozen(tensors):
        number = tensors[0].shape[0]
        found = run([tensor[torch.arange(2) % number] for tensor in tensors])
        return [output[torch.arange(number) % 2] for output in found]

    return frozen


def ends_at_four(run):
    """A table that is too short: what comes after four tokens is computed as if it were not there."""
    return lambda tensors: run([tensor[:, :4] for tensor in tensors])


@dataclass(frozen=True)
class Unchecked:
    """A call that says what it takes, and answers whatever it is asked."""

    checked: ExportedCall

    @property
    def signature(self):
        return self.checked.signature

    def __call__(self, *args):
        (found,) = self.checked.run(args)
        return found


def takes_any_dtype(call):
    """The dtype is made to fit."""
    return lambda *args: call(*(arg.long() for arg in args))


def with_numbers(call):
    """A signature in which the sequence is that of the example."""
    inputs = tuple(msgspec.structs.replace(a, shape=(a.shape[0], 5)) for a in call.signature.inputs)
    return ExportedCall(msgspec.structs.replace(call.signature, inputs=inputs), call.run)


def with_a_low_limit(call):
    limits = call.signature.ranges["sequence"]
    ranges = {**call.signature.ranges, "sequence": msgspec.structs.replace(limits, high=5)}
    return ExportedCall(msgspec.structs.replace(call.signature, ranges=ranges), call.run)


def without_a_signature(call):
    return lambda *args: call(*args)


SHAPE_FAULTS = {
    "computes_at_every_size": Engine(run=freezes_the_batch),
    "computes_at_every_size, longer": Engine(run=ends_at_four),
    "refuses_what_was_not_declared": Engine(call=Unchecked),
    "refuses_what_was_not_declared, unsaid": Engine(call=without_a_signature),
    "keeps_what_may_change": Engine(call=with_numbers),
    "keeps_what_may_change, as far": Engine(call=with_a_low_limit),
}


@pytest.mark.parametrize(("law", "engine"), SHAPE_FAULTS.items(), ids=SHAPE_FAULTS)
def test_a_fault_in_shapes_is_caught(law, engine):
    checked = getattr(shapes, law.partition(",")[0])
    with pytest.raises((AssertionError, pytest.fail.Exception, RuntimeError, IndexError)):
        checked(engine, encoder())


def keeps_bits(number):
    """Of the mantissa of each weight and of what goes in: 7 are bf16's, 10 are tf32's."""

    def rounded(x):
        return (x.view(torch.int32) & ~((1 << (23 - number)) - 1)).view(torch.float32)

    def rounds(module):
        for tensor in module.parameters():
            tensor.data.copy_(rounded(tensor.data))
        return module

    return rounds


def computes_in_bfloat16(run):
    return lambda tensors: [output.bfloat16().float() for output in run(tensors)]


def hides_nothing(run):
    """The mask is read, and what it hides is seen: it may be no more than a small number."""
    return lambda tensors: run([tensors[0], tensors[1].clamp(min=-1)] if len(tensors) > 1 else tensors)


def multiplies_the_mask(run):
    """As arithmetic on masks does: 0 times infinity is NaN."""
    return lambda tensors: run([tensors[0], tensors[1] * 0] if len(tensors) > 1 else tensors)


loads = itertools.count()
PROBE_FAULTS = {
    "writes_the_same_twice": Engine(stored=lambda tensors: [*tensors, torch.tensor(next(loads))]),
    "writes_the_same_twice, operators": Engine(counted=lambda found: found + Counter({f"float {next(loads)}": 1})),
    "stores_the_weights_once": Engine(stored=lambda tensors: [*tensors, *(t.clone() for t in tensors)]),
    "stores_the_weights_once, all": Engine(stored=lambda tensors: tensors[:1]),
    "computes_in_float32": Engine(module=keeps_bits(7)),
    "computes_in_float32, tf32": Engine(module=keeps_bits(10)),
    "computes_in_float32, outputs": Engine(run=computes_in_bfloat16),
    "gives_outputs_in_order_and_by_name": Engine(run=lambda run: lambda tensors: run(tensors)[::-1]),
    "gives_outputs_in_order_and_by_name, all": Engine(run=lambda run: lambda tensors: run(tensors)[:2]),
    "keeps_masks_of_infinity": Engine(run=hides_nothing),
    "keeps_masks_of_infinity, NaN": Engine(run=multiplies_the_mask),
}


@pytest.mark.parametrize(("law", "engine"), PROBE_FAULTS.items(), ids=PROBE_FAULTS)
def test_a_fault_on_a_probe_is_caught(law, engine):
    with pytest.raises((AssertionError, ValueError)):
        getattr(probes, law.partition(",")[0])(engine)


class Saturating(nn.Module):
    """Unsigned times signed bytes, as CPUs without VNNI add them: two products at a time, in 16 bits."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        rows = self.layer.rows(x)
        pairs = (rows.unsigned().int()[:, None] * self.layer.codes.int()).unflatten(-1, (-1, 2)).sum(-1)
        sums = pairs.clamp(-(2**15), 2**15 - 1).sum(-1) - (rows.zero + 128).int() * self.layer.codes.int().sum(-1)
        return (sums * rows.scale * self.layer.scale).view(*x.shape[:-1], -1)


def saturates(module):
    return replace_modules(module, lambda layer: Saturating(layer) if isinstance(layer, Int8Linear) else layer)


def leaves_one_in_float(module):
    """The first layer is computed from its dequantized weights."""
    first = next(layer for layer in module.modules() if isinstance(layer, Int8Linear))
    made = nn.Linear(first.in_features, first.out_features)
    return replace_modules(module, lambda layer: made if layer is first else layer)


def counts_one_more(found):
    return found + Counter(int8=1)


INTEGER_FAULTS = {
    "multiplies_integers_exactly": Engine(module=saturates),
    "has_an_integer_product_for_each_layer": Engine(module=leaves_one_in_float),
    "has_an_integer_product_for_each_layer, more": Engine(counted=counts_one_more),
    "stores_the_integers": Engine(stored=lambda tensors: [tensor.float() for tensor in tensors]),
    "refuses_the_technique": Engine(),
}


@pytest.mark.parametrize(("law", "engine"), INTEGER_FAULTS.items(), ids=INTEGER_FAULTS)
def test_a_fault_in_products_of_integers_is_caught(law, engine):
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        getattr(integers, law.partition(",")[0])(engine, Int8Static(), encoder())


def test_each_law_of_exported_programs_has_its_fault():
    faults = {name.partition(",")[0] for name in (*SHAPE_FAULTS, *PROBE_FAULTS, *INTEGER_FAULTS)}
    laws = {law.__name__ for law in (*SHAPE_LAWS, *PROBE_LAWS, *INTEGER_LAWS)}
    assert faults == laws | {"refuses_the_technique"}


def test_a_law_that_a_runtime_is_without_is_skipped_with_the_reason():
    class Frozen(ExportedContract):
        runtime = Engine()
        without: ClassVar = {"computes_at_every_size": "shapes are those of the example"}

    with pytest.raises(pytest.skip.Exception, match="shapes are those of the example"):
        Frozen().test_shape_law(shapes.computes_at_every_size)
    Frozen().test_laws_that_it_is_without_exist()


def test_a_contract_is_not_without_a_law_that_there_is_not():
    class Misspelt(ExportedContract):
        runtime = Engine()
        without: ClassVar = {"computes_at_all_sizes": "shapes are those of the example"}

    with pytest.raises(AssertionError, match="computes_at_all_sizes"):
        Misspelt().test_laws_that_it_is_without_exist()
