"""Quantization-aware training: a model prepared for it, its switch, and the quantized model that it becomes.

What is quantized, how, and on which ranges, is what the technique makes of the model without any training
(Jacob et al. 2018: train through fake quantization, deploy integers).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from torch import nn

from perfsuite._compat.torch import unfuse
from perfsuite.errors import TechniqueError
from perfsuite.protocols import Inputs, Technique
from perfsuite.techniques.common import copy_finite
from perfsuite.techniques.fake_quantized import fake_quantized
from perfsuite.techniques.fidelity import FidelityWarning
from perfsuite.techniques.quantization.calibration import calibrate
from perfsuite.techniques.quantization.int8_dynamic import Int8Dynamic
from perfsuite.techniques.quantization.int8_static import Int8Static
from perfsuite.techniques.quantization.parameters import by_module
from perfsuite.techniques.quantization.qat.grids import as_one, by_rows
from perfsuite.techniques.quantization.qat.kinds import stand_in
from perfsuite.techniques.quantization.qat.layers import become_plain, range_of, read_faked, set_range
from perfsuite.techniques.quantization.quantize import tied_to_embeddings
from perfsuite.techniques.quantization.weight_only import WeightOnly
from perfsuite.techniques.recorded import Digested, Step, provenance, write_provenance
from perfsuite.techniques.values import parse_technique
from perfsuite.techniques.wrappers import unwrapped

Trainable = Int8Dynamic | Int8Static | WeightOnly
_ATTRIBUTE = "_perfsuite_qat"  # a plain attribute: deep copies carry it along, state dicts do not


@dataclass(frozen=True)
class Plan:
    """What a prepared model becomes: by which technique, with which record; and what it can be called on."""

    technique: Trainable
    step: Step
    first: Inputs | None


def prepare_qat(model: nn.Module, technique: Technique | str, data: Iterable[Any] | None = None) -> nn.Module:
    """A copy of the model to be trained for a technique: it computes, in float, what the quantized model will.

    Each layer that the technique quantizes keeps its parameters and their names. Its weight is read from the grid of
    the quantized layer, and so are its inputs, where the technique quantizes activations; gradients pass straight
    through, but where a range cuts off. Nothing is quantized that the technique leaves in float.

    Args:
        model: a float model, which stays as it is. What is frozen in it is frozen in the copy.
        technique: ``int8-dynamic``, ``int8-static`` or ``weight-only-4`` and their like, by name or as a value.
        data: calibration data, for the ranges of ``int8-static``. Training does not move them (``recalibrate_qat``).

    Raises:
        TechniqueError: another technique, and whatever the technique refuses: a model that is quantized or prepared
            already, or has nothing to quantize, missing data.
        NonFiniteError: NaN or infinity in the weights or activations.
    """
    chosen_technique = _trainable(technique)
    seen = Digested(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FidelityWarning)  # that is what training is for
        quantized = chosen_technique.apply(model, data=None if data is None else seen)
    step = provenance(quantized)[-1]
    prepared = copy_finite(model)
    _stand_in(prepared, quantized, chosen_technique, step)
    object.__setattr__(prepared, _ATTRIBUTE, Plan(chosen_technique, step, seen.first()))
    return prepared


def recalibrate_qat(model: nn.Module, data: Iterable[Any]) -> None:
    """Give a model that is prepared for ``int8-static``, in place, the ranges of what passes through it by now.

    They are those that the technique would choose for the trained weights, in float: for training that moves
    activations far, between epochs and not at its end, so that the model learns to compute on them.

    Raises TechniqueError for a model that is not prepared, or has no ranges, and for missing data; NonFiniteError for
    activations that are not finite.
    """
    model, plan = _planned(model)
    if not isinstance(plan.technique, Int8Static):
        raise TechniqueError(f"{plan.technique.name} has no ranges to calibrate", "leave it out; int8-static has some")
    layers: dict[nn.Module, str] = {layer: name for name, layer in fake_quantized(model).items() if range_of(layer)}
    seen = Digested(data)
    with fake_quantization(model, enabled=False):
        grids = calibrate(model, layers, seen, plan.technique.range_of)
    for layer, name in layers.items():
        set_range(layer, *grids[name])
    step = msgspec.structs.replace(plan.step, data=seen.digest)
    object.__setattr__(model, _ATTRIBUTE, replace(plan, step=step, first=seen.first()))


def convert_qat(model: nn.Module) -> nn.Module:
    """The quantized model that a prepared one has been trained for; the given one stays as it is.

    It is what the technique makes of the trained weights, with the ranges that they were trained on: the same layers,
    files and record. The record's fidelity compares its answer with that of the prepared model.

    Raises TechniqueError for a model that ``prepare_qat`` did not make, NonFiniteError for weights that became NaN.
    """
    model, plan = _planned(model)
    trained = copy_finite(model)
    layers = fake_quantized(trained)
    ranges = {name: found for name, layer in layers.items() if (found := range_of(layer))}
    for layer in layers.values():
        become_plain(layer)
    delattr(trained, _ATTRIBUTE)
    result = plan.technique.skeleton(trained, plan.step.structure)
    for name, found in ranges.items():
        set_range(result.get_submodule(name), *found)
    seen = Digested(None if plan.first is None else [plan.first])
    step = msgspec.structs.replace(plan.step, fidelity=plan.technique.checked(model, result, seen))
    write_provenance(result, (*provenance(model), step))
    return result


@contextmanager
def fake_quantization(model: nn.Module, *, enabled: bool) -> Iterator[None]:
    """While open, a prepared model computes with fake quantization, or as the float model that it was made of.

    Afterwards each layer is as before. Raises TechniqueError for a model that ``prepare_qat`` did not make.
    """
    model, _ = _planned(model)
    before = [(layer, layer.fakes) for layer in fake_quantized(model).values()]
    for layer, _ in before:
        layer.fakes = enabled
    try:
        yield
    finally:
        for layer, fakes in before:
            layer.fakes = fakes


def _trainable(technique: Technique | str) -> Trainable:
    found = parse_technique(technique) if isinstance(technique, str) else technique
    if not isinstance(found, Trainable):
        raise TechniqueError(
            f"there is no quantization-aware training for {found.name!r}",
            "use int8-dynamic, int8-static or weight-only-4; apply other techniques before that",
        )
    return found


def _stand_in(model: nn.Module, quantized: nn.Module, technique: Trainable, step: Step) -> None:
    """Let the layers that were quantized be fake ones in the model, in place."""
    chosen = technique.chosen(model, step.structure)
    tied = tied_to_embeddings(chosen)
    per_channel = getattr(technique, "per_channel", True)
    for layer in model.modules():
        if isinstance(layer, nn.TransformerEncoderLayer):
            unfuse(layer)
    for layer, name in chosen.items():
        grid = by_rows if per_channel or layer in tied else as_one
        stand_in(layer, quantized.get_submodule(name), grid, name)
    for place, names in by_module(chosen.layers.parameters).items():
        read_faked(model.get_submodule(place), tuple(names))


def _planned(model: nn.Module) -> tuple[nn.Module, Plan]:
    """The prepared model, which may be compiled or spread over devices, and its plan."""
    inside = unwrapped(model)
    plan = vars(inside).get(_ATTRIBUTE)
    if not isinstance(plan, Plan):
        raise TechniqueError(
            f"the {type(inside).__name__} is not prepared for quantization-aware training",
            "use what perfsuite.prepare_qat(model, technique) gives",
        )
    return inside, plan
