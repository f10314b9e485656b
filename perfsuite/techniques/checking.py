"""The check of what a technique promises: its result beside the model, on inputs that there are, or layer by layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import nn

from perfsuite.errors import TechniqueError, first_line
from perfsuite.techniques.answered import Called, first_answer, other_answers, would_compile
from perfsuite.techniques.blame import Blame, typed
from perfsuite.techniques.common import is_linear, linear_weights
from perfsuite.techniques.comparing import answers, decibels
from perfsuite.techniques.fidelity import Fidelity, Promise
from perfsuite.techniques.quantization.preparing import nothing_prepared
from perfsuite.techniques.replaced import Layer, replaced
from perfsuite.techniques.visiting import visited

if TYPE_CHECKING:
    from perfsuite.techniques.recorded import Digested
    from perfsuite.techniques.suspects import Suspects

_CLEARLY = 6.0  # dB: half as far off
_ROWS = 8  # of the input of a layer that is checked for itself


def check(name: str, promise: Promise, suspects: Suspects, data: Digested) -> Fidelity:
    """Calls of both, on the first inputs that the model takes, and a few batches more if there are such; until one is
    bad. Both are left as they were.

    Raises TechniqueError where the result's answer is not as near to the model's as promised, or there is none; it
    names the layers to blame, and says what is to be typed.
    """
    model, result = suspects.model, suspects.result
    if would_compile(model):
        return Fidelity(None, "a compiled model would be compiled for it")
    with visited(model, result), nothing_prepared():
        called, why = first_answer(model, data)
        if called is None:
            return _by_layers(name, promise.least, replaced(model, result), why)
        found = [_whole(name, promise, suspects, called)]
        for other in other_answers(model, data, called):
            if not _at_least(found[-1], promise.usual):
                break
            found.append(_whole(name, promise, suspects, other))
    return _worst(found)


def _at_least(fidelity: Fidelity, least_db: float) -> bool:
    return fidelity.decibels is not None and fidelity.decibels >= least_db


def _worst(found: Sequence[Fidelity]) -> Fidelity:
    """Of batches looked at in turn: the last one, if it ended the search, is the worst."""
    unknown = [each for each in found if each.decibels is None]
    return unknown[0] if unknown else min(found, key=lambda each: each.decibels or 0.0)


@dataclass
class _Trial:
    """Calls results on one input; what they raise is kept, and minus infinity is how near they are."""

    called: Called
    raised: list[Exception] = field(default_factory=list)

    def __call__(self, result: nn.Module) -> float:
        try:
            return decibels(self.called.answers, answers(result, self.called.inputs))
        except Exception as error:  # a layer that was changed may break its model in any way
            self.raised.append(error)
            return -math.inf


def _whole(name: str, promise: Promise, suspects: Suspects, called: Called) -> Fidelity:
    trial, on = _Trial(called), called.on
    reached = trial(suspects.result)
    if reached >= promise.usual:
        return Fidelity(round(reached, 1), on)
    itself = decibels(called.answers, answers(suspects.model, called.inputs))
    if not itself >= promise.usual:
        return Fidelity(None, f"two calls of the model on {on} differ")
    noise, apart = (-math.inf, -math.inf) if trial.raised else _explained(suspects, called, reached)
    if reached >= promise.least and apart >= min(promise.usual, noise + _CLEARLY):
        return Fidelity(round(reached, 1), on)
    least_db = min(promise.usual, noise - 1) if noise > promise.least else promise.usual
    what = f"is at {reached:.1f} dB, and {least_db:.0f} are promised"
    for error in trial.raised:
        what = f"cannot be called: {first_line(error)}"
        if said := suspects.failed(name, called, error):
            raise said from error
    raise _blaming(
        f"what {name} makes of the {type(suspects.model).__name__} {what}, on {on}", suspects, trial, least_db
    )


def _explained(suspects: Suspects, called: Called, reached: float) -> tuple[float, float]:
    """In dB, how near an answer is that only the noise of the changed layers changes, and how near that is to ours.

    Where nobody knows such an answer, all of it is held to be noise.
    """
    try:
        expected = suspects.expected(called.inputs)
    except Exception:  # a layer may be called in ways that its replacement does not know
        return -math.inf, -math.inf
    if expected is None:
        return reached, math.inf
    return decibels(called.answers, expected), decibels(expected, answers(suspects.result, called.inputs))


def _blaming(what: str, suspects: Suspects, trial: _Trial, least_db: float) -> TechniqueError:
    layers = suspects.layers(trial.called.inputs)

    def run(changed: Sequence[Layer]) -> float:
        return trial(suspects.changed(changed, layers))

    blamed, left = Blame(layers, run, least_db).found() if run(()) >= least_db else ([], -math.inf)
    if not blamed or not left >= least_db:
        return TechniqueError(f"{what}; no layer of it is to blame" if layers else what, suspects.otherwise)
    return _error(what, suspects.option, [layer.name for layer in blamed], layers, f"which gives {left:.1f} dB")


def _error(what: str, option: str, names: Sequence[str], layers: Sequence[Layer], gain: str) -> TechniqueError:
    entries = typed(names, [layer.name for layer in layers if layer.name not in names])
    return TechniqueError(
        f"{what}; to blame: {', '.join(map(repr, entries))}",
        f"leave {'it' if len(names) == 1 else 'them'} in float, {gain}: {option}={entries!r}",
    )


def _by_layers(name: str, least_db: float, layers: Sequence[Layer], why: str) -> Fidelity:
    """Each linear and embedding layer beside the one that was there, on a seeded input of its own."""
    found = {layer: db for layer in layers if (db := _layer_db(layer)) is not None}
    if not found:
        return Fidelity(None, why)
    worst = min(found.values())
    if not worst >= least_db:
        bad = [layer for layer, db in found.items() if not db >= least_db]
        what = f"{name} on layers for themselves is at {worst:.1f} dB, and {least_db:.0f} are promised"
        raise _error(what, "exclude", [layer.name for layer in bad], layers, f"which gives {least_db:.1f} dB")
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
