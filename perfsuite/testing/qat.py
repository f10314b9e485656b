"""The laws of quantization-aware training: what is trained is what is deployed, and gradients pass straight through.

Q1 to Q7 of Jacob et al. 2018 and what went wrong since: ranges that move in eval, fake and real integers that differ.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import msgspec
import torch
from hypothesis import given
from hypothesis.strategies import SearchStrategy
from torch import nn

from perfsuite.models.seeding import seeded
from perfsuite.protocols import Inputs, Technique
from perfsuite.storage import WEIGHTS, save
from perfsuite.techniques.attention import split_attention
from perfsuite.techniques.common import main_output
from perfsuite.techniques.quantization import kernels
from perfsuite.techniques.quantization.qat.training import convert_qat, fake_quantization, prepare_qat
from perfsuite.techniques.recorded import provenance
from perfsuite.testing.contract import drawn, each, run, state_bytes, tied_names
from perfsuite.testing.qat_layers import check_answer, check_gradients, linear_pairs, pairs
from perfsuite.testing.strategies import Sample, models

_LOUD = 100.0  # times what ranges were calibrated on
_NOISE = 0.1  # that training adds to a weight, of its tensor's mean magnitude


def _off(prepared: nn.Module) -> AbstractContextManager[None]:
    return fake_quantization(prepared, enabled=False)


@dataclass(frozen=True)
class Qat:
    """A way to train for a technique: ours, unless functions of one's own are given.

    ``prepare(model, technique, data)`` gives the model to be trained, ``convert(prepared)`` the quantized one;
    while ``off(prepared)`` is open, nothing is quantized.
    """

    technique: Technique
    prepare: Callable[[nn.Module, Technique, Iterable[Any]], nn.Module] = prepare_qat
    convert: Callable[[nn.Module], nn.Module] = convert_qat
    off: Callable[[nn.Module], AbstractContextManager[None]] = _off

    def prepared(self, sample: Sample) -> nn.Module:
        return self.prepare(sample.model, self.technique, sample.data)

    def trained(self, sample: Sample) -> nn.Module:
        """Prepared, with other weights than at first."""
        prepared = self.prepared(sample)
        with seeded(1), torch.no_grad():
            for parameter in prepared.parameters():
                parameter.add_(torch.randn_like(parameter) * parameter.abs().mean() * _NOISE)
        return prepared


QatLaw = Callable[[Qat, Sample], None]


def leaves_models_untouched(qat: Qat, sample: Sample) -> None:
    """Neither the model that is prepared nor the one that is converted changes."""
    before, structure = state_bytes(sample.model), str(sample.model)
    prepared = qat.prepared(sample)
    assert (state_bytes(sample.model), str(sample.model)) == (before, structure), "the model that was given has changed"
    before, structure = state_bytes(prepared), str(prepared)
    qat.convert(prepared)
    assert (state_bytes(prepared), str(prepared)) == (before, structure), "the prepared model has changed"


def keeps_names_and_ties(qat: Qat, sample: Sample) -> None:
    """The parameters are those of the float model, by name, and what was one tensor is one."""
    model, prepared = _split(sample.model), qat.prepared(sample)
    assert dict(prepared.named_parameters()).keys() == dict(model.named_parameters()).keys(), "parameters differ"
    assert tied_names(model) <= tied_names(prepared), "tied parameters are tied no more"


def off_is_the_float_model(qat: Qat, sample: Sample) -> None:
    """Q1, bit for bit: outputs and gradients, without fake quantization. With it, the outputs are others."""
    model, prepared = _split(sample.model), qat.prepared(sample)
    faked = run(prepared, sample.inputs)
    with qat.off(prepared):
        found, gradients = _backward(prepared, sample)
    expected, wanted = _backward(model, sample)
    assert torch.equal(found, expected), "without fake quantization the output is not that of the float model"
    different = [name for name, gradient in wanted.items() if not torch.equal(gradients[name], gradient)]
    assert not different, f"without fake quantization gradients are others, of {different}"
    assert not torch.equal(faked, expected), "with fake quantization nothing is quantized"


def untrained_is_post_training(qat: Qat, sample: Sample) -> None:
    """Q2, bit for bit: the technique's result, its modules and its tensors."""
    expected = qat.technique.apply(sample.model, data=sample.data)
    found = qat.convert(qat.prepared(sample))
    assert str(found) == str(expected), "untrained, the modules are not those of the technique"
    wanted, given_ = state_bytes(expected), state_bytes(found)
    different = [name for name in {*wanted, *given_} if wanted.get(name) != given_.get(name)]
    assert not different, f"untrained, tensors are not those of the technique: {different}"


def trains_on_the_weights_that_are_deployed(qat: Qat, sample: Sample) -> None:
    """Q3, bit for bit: after training, too, a layer's weight is the one that the integers stand for."""
    prepared = qat.trained(sample)
    for name, fake, quantized in pairs(prepared, qat.convert(prepared)):
        assert torch.equal(fake.weight, quantized.weight), f"the weight of {name!r} is not the one that is deployed"


def computes_what_is_deployed(qat: Qat, sample: Sample) -> None:
    """Q3: each layer's answer is that of its integers, but for the rounding of sums of floats."""
    prepared = qat.trained(sample).eval()
    for name, fake, quantized in linear_pairs(prepared, qat.convert(prepared)):
        check_answer(name, fake, quantized)


def answers_alike_on_all_kernels(qat: Qat, sample: Sample) -> None:
    """Q7: the same on the portable kernel as on the one that is chosen here."""
    prepared = qat.trained(sample).eval()
    converted = qat.convert(prepared)
    with mock.patch.dict(kernels._chosen, {"cpu": "blocked"}):
        for name, fake, quantized in linear_pairs(prepared, converted):
            check_answer(name, fake, quantized)


def gradients_pass_straight_through(qat: Qat, sample: Sample) -> None:
    """Q4, beside float64: those of the product of what is on the grid; to an input beyond the grid's ends, none."""
    exact = Sample(copy.deepcopy(sample.model).double(), _double(sample.inputs), sample.description)
    prepared = qat.trained(exact)
    for name, fake, quantized in linear_pairs(prepared, qat.convert(prepared)):
        check_gradients(name, fake, quantized)


def eval_moves_nothing(qat: Qat, sample: Sample) -> None:
    """Q5, bit for bit: whatever passes through in eval, buffers and what is deployed are as before."""
    prepared = qat.prepared(sample).eval()
    before, deployed = state_bytes(prepared), state_bytes(qat.convert(prepared))
    run(prepared, sample.inputs)
    run(prepared, Inputs(tuple(arg * _LOUD if arg.is_floating_point() else arg for arg in sample.inputs.args)))
    assert state_bytes(prepared) == before, "a pass in eval has changed buffers"
    assert state_bytes(qat.convert(prepared)) == deployed, "a pass in eval has changed what is deployed"


def writes_the_same_file(qat: Qat, sample: Sample) -> None:
    """Q6: untrained, the bytes of the technique's own result, and its record, but for what was seen of its answers."""
    found, records = [], []
    made = qat.technique.apply(sample.model, data=sample.data), qat.convert(qat.prepared(sample))
    with tempfile.TemporaryDirectory() as folder:
        for number, model in enumerate(made):
            found.append((save(model, Path(folder) / str(number), qat.technique) / WEIGHTS).read_bytes())
            records.append([msgspec.structs.replace(step, fidelity=None) for step in provenance(model)])
    assert found[0] == found[1], "untrained, the file is not that of the technique"
    assert records[0] == records[1], f"the record is {records[1]}, the technique's {records[0]}"


QAT_LAWS: tuple[QatLaw, ...] = (
    leaves_models_untouched,
    keeps_names_and_ties,
    off_is_the_float_model,
    untrained_is_post_training,
    trains_on_the_weights_that_are_deployed,
    computes_what_is_deployed,
    answers_alike_on_all_kernels,
    gradients_pass_straight_through,
    eval_moves_nothing,
    writes_the_same_file,
)


class QatContract:
    """The laws of quantization-aware training. Subclass it and set ``qat``; ``samples`` draws models for it."""

    qat: ClassVar[Qat]
    samples: ClassVar[SearchStrategy[Sample]] = models()

    @each(QAT_LAWS)
    def test_law(self, law: QatLaw) -> None:
        @drawn(8)
        @given(self.samples)
        def holds(sample: Sample) -> None:
            law(self.qat, sample)

        holds()


def _split(model: nn.Module) -> nn.Module:
    """The float model as techniques see it: packed attentions are four layers."""
    return split_attention(copy.deepcopy(model))


def _backward(model: nn.Module, sample: Sample) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The main output, and each parameter's gradient of its sum of squares."""
    with seeded(0):
        output = main_output(model(*sample.inputs.args, **sample.inputs.kwargs))
    names, parameters = zip(*model.named_parameters(), strict=True)
    gradients = torch.autograd.grad(output.square().sum(), parameters, materialize_grads=True)
    return output.detach(), dict(zip(names, gradients, strict=True))


def _double(inputs: Inputs) -> Inputs:
    return Inputs(tuple(arg.double() if arg.is_floating_point() else arg for arg in inputs.args))
