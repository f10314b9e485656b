"""One entry of the zoo through one technique, and what comes of it."""

import copy
import math
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file
from transformers import PreTrainedModel

import perfsuite
from perfsuite.errors import PerfsuiteError, first_line
from perfsuite.measure.outputs import fidelity
from perfsuite.models.devices import device_of
from perfsuite.models.seeding import seeded
from perfsuite.protocols import Inputs
from perfsuite.storage import WEIGHTS
from perfsuite.techniques.attention import split_attention
from perfsuite.techniques.common import items_of
from perfsuite.techniques.coverage import CoverageWarning
from perfsuite.techniques.experts import SplitExperts, split_experts
from perfsuite.techniques.fidelity import FidelityWarning
from perfsuite.testing.contract import state_bytes
from perfsuite.testing.strategies import Sample
from tests.techniques.test_coupling import masked
from tests.zoo.outcome import Outcome

EXACT = 35  # dB: a head that is tied to a table of embeddings rounds its inputs to eight bits
CALIBRATION = range(1, 9)


@dataclass(frozen=True)
class Promise:
    """What a technique promises of every model that it takes.

    Args:
        smaller: how many times, at least, unless it said that much of the model was left as it was.
        decibels: the fidelity of every output, at least, unless it said that the result is less near than usual.
        after: the technique whose result is the one to be faithful to; the original where there is none.
        is_masked: "weights" where the result computes what the original does with the result's weights; "units" where
            it computes what the original does with the removed units masked; else empty.
        rounds_weights: whether it computes what the original does with the weights that its layers show, but for the
            order of sums. Four bits say too little about fidelity for more.
    """

    smaller: float
    decibels: float = -math.inf
    after: str = "fp32"
    is_masked: Literal["", "weights", "units"] = ""
    rounds_weights: bool = False


PROMISES = {
    "int8-dynamic": Promise(1.5, 25),
    "int8-static": Promise(1.5, 25),
    "weight-only-4": Promise(1.5, rounds_weights=True),
    "magnitude-50": Promise(0.99, is_masked="weights"),
    "structured-50": Promise(1.2, is_masked="units"),
    "bf16": Promise(1.9, 25),
    "structured-50+int8-dynamic": Promise(1.8, 20, after="structured-50"),  # half as many units average the noise
}
TECHNIQUES = tuple(PROMISES)


class FaultError(Exception):
    """The result is wrong, or the model that was given is."""


def trial(entry, name):
    """Apply the technique of that name to a fresh model, and look at all that it promises. Raises nothing."""
    return examined(entry, name, perfsuite.parse_technique(name), PROMISES[name])


def examined(entry, name, technique, promise):
    """The same of any technique."""
    try:
        return _examined(entry, name, technique, promise)
    except FaultError as fault:
        return Outcome(entry.name, name, "wrong", str(fault))
    except Exception as error:  # whatever torch or a model raises: it was not refused
        return Outcome(entry.name, name, "wrong", f"{type(error).__name__}: {first_line(error)}")


def _examined(entry, name, technique, promise):
    model = entry.build()
    inputs, before = entry.inputs(model, 0), _looks(model)
    expected = answers(model, inputs)
    try:
        result, notices = _applied(entry, model, technique)
    except PerfsuiteError as error:
        _check_untouched(model, before)
        return Outcome(entry.name, name, "refused", error.what)
    _check_untouched(model, before)
    found = answers(result.eval(), inputs)
    if promise.after != "fp32":
        expected = answers(_applied(entry, model, perfsuite.parse_technique(promise.after))[0], inputs)
    decibels = _fidelity(expected, found)
    if decibels < promise.decibels and FidelityWarning not in notices:
        raise FaultError(f"{decibels:.1f} dB")
    if promise.is_masked:
        _check_masked(entry, model, result, technique, promise, found)
    if promise.rounds_weights:
        _check_rounded(model, result, inputs, found)
    smaller = _reloaded(entry, model, result, technique, found)
    if smaller < promise.smaller and CoverageWarning not in notices:
        raise FaultError(f"{smaller:.2f}x smaller, without a notice")
    kind, said = "partly" if notices else "right", "; ".join(notices.values())
    return Outcome(entry.name, name, kind, said, decibels, smaller, bool(promise.is_masked))


def _applied(entry, model, technique):
    """The result, and the notices that perfsuite gave, by their class."""
    data = [entry.inputs(model, seed) for seed in CALIBRATION]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = technique.apply(model, data=data)
    ours = [caution for caution in caught if issubclass(caution.category, CoverageWarning | FidelityWarning)]
    return result, {caution.category: first_line(caution.message) for caution in ours}


def answers(model, inputs):
    """All outputs that are tensors of real numbers, by name."""
    with torch.no_grad(), seeded(0), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        output = model(*inputs.args, **inputs.kwargs)
    items = {"output": output} if isinstance(output, torch.Tensor) else items_of(output)
    return {key: value for key, value in items.items() if isinstance(value, torch.Tensor) and value.is_floating_point()}


def _fidelity(expected, found):
    """Of the output that follows worst."""
    if expected.keys() != found.keys():
        raise FaultError(f"the outputs are {list(found)}, the original's {list(expected)}")
    for key, value in found.items():
        if (value.shape, value.dtype) != (expected[key].shape, expected[key].dtype):
            raise FaultError(f"{key} is {tuple(value.shape)} of {value.dtype}, the original's "
                             f"{tuple(expected[key].shape)} of {expected[key].dtype}")  # fmt: skip
        if bool(expected[key].isfinite().all()) and not bool(value.isfinite().all()):
            raise FaultError(f"{key} is not finite")
    compared = [key for key in found if bool(expected[key].isfinite().all()) and float(expected[key].norm())]
    return min(fidelity(expected[key].double(), found[key].double())["sqnr"] for key in compared)


def _looks(model):
    """All that must not change in the model that is given."""
    config = model.config.to_dict() if isinstance(model, PreTrainedModel) else {}
    return state_bytes(model), str(model), str(config), [module.training for module in model.modules()]


def _check_untouched(model, before):
    if _looks(model) != before:
        raise FaultError("the model that was given has changed")


def _check_masked(entry, model, result, technique, promise, found):
    """Raises FaultError where the result is not exactly the original without what was pruned."""
    if promise.is_masked == "weights":
        twin = copy.deepcopy(model)
        twin.load_state_dict(result.state_dict())
        if not same(answers(twin, entry.inputs(model, 0)), found):
            raise FaultError("differs from the model with its weights")
        return
    sample = in_double(entry)
    try:
        check_units(sample, technique.apply(sample.model, data=sample.data))
    except AssertionError as error:
        raise FaultError(first_line(error)) from error


def check_units(sample, small):
    """Raises AssertionError where the small model does not equal the sample's with the removed units masked."""
    _check_equal(answers(masked(sample.model, sample.inputs)[0], sample.inputs), answers(small, sample.inputs))


def _check_equal(expected, found):
    for key, value in expected.items():
        far = float((value - found[key]).abs().max()) / (float(value.abs().max()) or 1.0)
        nearest = 1e-9 if value.dtype == torch.float64 else 1e-4
        assert far <= nearest, f"differs from the masked model by {far:.1e} of the largest output"


def _check_rounded(model, result, inputs, found):
    """Raises FaultError where the result does not compute with the weights that its layers show."""
    twin = split_attention(copy.deepcopy(model))
    theirs = dict(result.named_modules())
    split_experts(twin, [name for name, module in theirs.items() if isinstance(module, SplitExperts)])
    with torch.no_grad():
        for name, module in twin.named_modules():
            for key, parameter in module.named_parameters(recurse=False):
                shown = getattr(theirs.get(name), key, None)
                if isinstance(shown, torch.Tensor) and shown.shape == parameter.shape:
                    parameter.copy_(shown)
    decibels = _fidelity(answers(twin, inputs), found)
    if decibels < EXACT:
        raise FaultError(f"{decibels:.1f} dB to the model with the weights that its layers show")


def in_double(entry):
    """A sample in float64; in float32, if the model computes in nothing else."""
    model = entry.build()
    if isinstance(model, PreTrainedModel) and model._can_set_experts_implementation():
        model.set_experts_implementation("eager")  # the fused ones are not written for float64
    sample = Sample(model, entry.inputs(model, 0), entry.name)
    double = Sample(copy.deepcopy(model).double(), _double(sample.inputs), entry.name)
    try:
        finite = all(bool(value.isfinite().all()) for value in answers(double.model, double.inputs).values())
    except RuntimeError:
        return sample
    return double if finite else sample


def _double(inputs):
    def cast(value):
        return value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value

    return Inputs(tuple(map(cast, inputs.args)), {key: cast(value) for key, value in inputs.kwargs.items()})


def _reloaded(entry, model, result, technique, found):
    """How much smaller the file is, of which a loaded model must answer the same, bit for bit."""
    with tempfile.TemporaryDirectory() as folder:
        saved = perfsuite.save_model(result, Path(folder) / "saved", technique)
        fresh = None if isinstance(model, PreTrainedModel) else entry.build()
        try:
            loaded = perfsuite.load_model(saved, model=fresh, technique=technique)
        except PerfsuiteError as error:
            why = first_line(error).replace(f"{saved}/", "")  # a folder of this machine
            raise FaultError(f"saved, and cannot be loaded: {why}") from error
        if not same(answers(loaded.to(device_of(model)), entry.inputs(model, 0)), found):
            raise FaultError("answers otherwise when it is loaded again")
        original = perfsuite.save_model(model, Path(folder) / "original")
        return _payload(original / WEIGHTS) / _payload(saved / WEIGHTS)


def _payload(path):
    """Bytes of the tensors: what their names and shapes take is much of the file of a model as small as these."""
    return sum(tensor.numel() * tensor.element_size() for tensor in load_file(path).values())


def same(one, other):
    """Equal bit for bit, NaN included."""
    return one.keys() == other.keys() and all(
        torch.equal(one[k].nan_to_num(7e7), other[k].nan_to_num(7e7)) for k in one
    )
