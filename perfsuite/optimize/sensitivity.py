"""Leaving the layers that suffer most from quantization in float, until an accuracy floor holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from perfsuite.errors import TechniqueError
from perfsuite.measure.outputs import fidelity
from perfsuite.progress import tell
from perfsuite.protocols import wants_gradients
from perfsuite.techniques.calibrating import batches, in_eval_mode
from perfsuite.techniques.common import copy_finite, main_output
from perfsuite.techniques.fidelity import unchecked
from perfsuite.techniques.precision.half import Precision
from perfsuite.techniques.quantization.int8_dynamic import Int8Dynamic
from perfsuite.techniques.quantization.int8_static import Int8Static
from perfsuite.techniques.quantization.weight_only import WeightOnly
from perfsuite.techniques.recorded import Digested

Quantization = Int8Dynamic | Int8Static | WeightOnly


def hold_floor(
    model: nn.Module,
    technique: Quantization | Precision,
    data: Iterable[Any] | None,
    score: Callable[[nn.Module], float],
    floor: float,
) -> tuple[Quantization | Precision, nn.Module]:
    """Exclude the most sensitive layers, one more at a time, until the score reaches the floor.

    Returns the technique with those layers in its ``exclude``, and its result. Raises TechniqueError
    if the floor is not reached although a single layer is left.
    """
    with unchecked():  # the score says what is good enough
        return _held(model, technique, None if data is None else tuple(data), score, floor)


def _held(
    model: nn.Module,
    technique: Quantization | Precision,
    kept: tuple[Any, ...] | None,
    score: Callable[[nn.Module], float],
    floor: float,
) -> tuple[Quantization | Precision, nn.Module]:
    result = technique.apply(model, data=kept)
    reached = score(result)
    if reached >= floor:
        return technique, result
    if isinstance(technique, Precision):
        raise TechniqueError(
            f"the score is {reached:.4g} in {technique.name}, below the floor of {floor:.4g}", "lower the floor"
        )
    ranked = sensitivities(model, technique, kept)
    order = sorted(ranked, key=lambda name: ranked[name])
    for number, name in enumerate(order[:-1], start=1):
        technique = replace(technique, exclude=(*technique.exclude, name))
        result = technique.apply(model, data=kept)
        reached = score(result)
        tell("excluding sensitive layers", number, len(order) - 1)
        if reached >= floor:
            return technique, result
    raise TechniqueError(
        f"the score is {reached:.4g} with all layers but one in float, below the floor of {floor:.4g}",
        "lower the floor, or check that the original reaches it",
    )


def sensitivities(model: nn.Module, technique: Quantization, data: Iterable[Any] | None) -> dict[str, float]:
    """The signal to noise ratio, in dB, of the output when a layer alone is quantized; low is sensitive.

    Only layers that the technique would quantize, and whose weight no other layer shares.
    """
    kept = None if data is None else tuple(data)
    prepared = copy_finite(model)
    names = [name for name in technique.chosen(prepared).values() if name]
    expected = _outputs(prepared, kept)
    ranked: dict[str, float] = {}
    for number, name in enumerate(names, start=1):
        alone = replace(technique, include=(name,), exclude=())
        try:
            with unchecked():  # it is measured here
                quantized = alone.apply(prepared, data=kept)
            ranked[name] = fidelity(expected, _outputs(quantized, kept))["sqnr"]
        except TechniqueError:
            continue  # its weight is tied: it is never quantized alone
        tell("measuring the sensitivity of layers", number, len(names))
    return ranked


def _outputs(model: nn.Module, data: Iterable[Any] | None) -> Tensor:
    with torch.set_grad_enabled(wants_gradients(model)), in_eval_mode(model):
        parts = [
            main_output(model(*inputs.args, **inputs.kwargs)).detach().double().flatten(0, -2).cpu()
            for inputs in batches(model, Digested(data), "sensitivity of layers")
        ]
    return torch.cat(parts)
