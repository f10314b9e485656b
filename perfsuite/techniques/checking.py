"""The check of what a technique promises: its result beside the model, on inputs that there are, or layer by layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from perfsuite._compat.torch import COMPILED, is_compiled, own_modules
from perfsuite.errors import TechniqueError, first_line
from perfsuite.protocols import Inputs
from perfsuite.techniques.blame import Blame, typed
from perfsuite.techniques.common import is_linear, linear_weights
from perfsuite.techniques.comparing import answers, decibels
from perfsuite.techniques.examples import examples
from perfsuite.techniques.fidelity import Fidelity
from perfsuite.techniques.quantization.layers import nothing_prepared
from perfsuite.techniques.replaced import Layer, replaced
from perfsuite.techniques.visiting import visited

if TYPE_CHECKING:
    from perfsuite.techniques.recorded import Digested

_ROWS = 8  # of the input of a layer that is checked for itself


def check(name: str, least_db: float, model: nn.Module, result: nn.Module, data: Digested) -> Fidelity:
    """One call of each, on the first inputs that the model takes; both are left as they were.

    Raises TechniqueError where the result's answer is not as near to the model's as promised, or there is none; it
    names the layers to blame, and says what is to be typed.
    """
    if any(COMPILED in own_modules(module) for module in model.modules()) or is_compiled(model):
        return Fidelity(None, "a compiled model would be compiled for it")
    with visited(model, result), nothing_prepared():
        why = "no inputs were given, and it has no dummy_inputs"
        for on, inputs in examples(model, data):
            try:
                before = answers(model, inputs)
            except Exception as error:  # it is somebody's model, and these may be no inputs for it
                why = f"it cannot be called on {on}: {first_line(error)}"
                continue
            if any(tensor.isfinite().any() for tensor in before):
                return _whole(name, least_db, model, result, inputs, before, on)
            why = f"on {on} it answers no finite real numbers"
        return _by_layers(name, least_db, replaced(model, result), why)


def _whole(
    name: str, least_db: float, model: nn.Module, result: nn.Module, inputs: Inputs, before: list[Tensor], on: str
) -> Fidelity:
    raised: list[str] = []

    def run() -> float:
        try:
            return decibels(before, answers(result, inputs))
        except Exception as error:  # a layer that was replaced may break its model in any way
            raised.append(first_line(error))
            return -math.inf

    reached = run()
    if reached >= least_db:
        return Fidelity(round(reached, 1), on)
    itself = decibels(before, answers(model, inputs))
    if not itself >= least_db:
        return Fidelity(None, f"two calls of the model on {on} differ")
    what = f"cannot be called: {raised[0]}" if raised else f"is at {reached:.1f} dB, and {least_db:.0f} are promised"
    layers = [layer for layer in replaced(model, result) if layer.places]
    blamed, left = Blame(layers, run, least_db).found()
    raise _error(f"what {name} makes of the {type(model).__name__} {what}, on {on}", blamed, layers, left, least_db)


def _error(what: str, blamed: Sequence[Layer], layers: Sequence[Layer], left: float, least_db: float) -> TechniqueError:
    if not blamed or not left >= least_db:
        return TechniqueError(f"{what}; no layer of it is to blame", "use another technique")
    names = [layer.name for layer in blamed]
    entries = typed(names, [layer.name for layer in layers if layer not in blamed])
    return TechniqueError(
        f"{what}; to blame: {', '.join(map(repr, entries))}",
        f"leave {'it' if len(names) == 1 else 'them'} in float, which gives {left:.1f} dB: exclude={entries!r}",
    )


def _by_layers(name: str, least_db: float, layers: Sequence[Layer], why: str) -> Fidelity:
    """Each linear and embedding layer beside the one that was there, on a seeded input of its own."""
    found = {layer: db for layer in layers if (db := _layer_db(layer)) is not None}
    if not found:
        return Fidelity(None, why)
    worst = min(found.values())
    if not worst >= least_db:
        bad = [layer for layer, db in found.items() if not db >= least_db]
        raise _error(f"{name} on layers for themselves is at {worst:.1f} dB, and {least_db:.0f} are promised",
                     bad, layers, least_db, least_db)  # fmt: skip
    said = f"the {len(found)} of {len(layers)} layers that could be called for themselves"
    return Fidelity(round(worst, 1), f"{said}, not on the whole: {why}")


def _layer_db(layer: Layer) -> float | None:
    """None for a layer whose input nobody knows."""
    generator = torch.Generator().manual_seed(0)
    if isinstance(layer.before, nn.Embedding):
        table = layer.before.weight
        x = torch.randint(0, max(1, table.shape[0]), (_ROWS,), generator=generator).to(table.device)
    elif is_linear(layer.before):
        weight = linear_weights(layer.before).weight
        x = torch.randn(_ROWS, weight.shape[1], generator=generator).to(weight.device, weight.dtype)
    else:
        return None
    try:
        found = decibels(*([module(x).detach().cpu().double()] for module in (layer.before, layer.after)))
    except Exception:  # a layer with hooks of somebody's, or without rows
        return None
    return None if math.isnan(found) else found
