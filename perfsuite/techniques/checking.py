"""The check of what a technique promises: its result beside the model, on inputs that there are, or layer by layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from perfsuite._compat.torch import COMPILED, is_compiled, own_modules
from perfsuite.errors import TechniqueError, first_line
from perfsuite.protocols import Inputs
from perfsuite.techniques.blame import Blame, typed
from perfsuite.techniques.common import is_linear, linear_weights
from perfsuite.techniques.comparing import answers, decibels
from perfsuite.techniques.examples import examples
from perfsuite.techniques.fidelity import Fidelity, Promise
from perfsuite.techniques.quantization.preparing import nothing_prepared
from perfsuite.techniques.replaced import Layer, replaced
from perfsuite.techniques.visiting import visited

if TYPE_CHECKING:
    from perfsuite.techniques.recorded import Digested

_CLEARLY = 6.0  # dB: half as far off
_ROWS = 8  # of the input of a layer that is checked for itself


def check(name: str, promise: Promise, model: nn.Module, result: nn.Module, data: Digested) -> Fidelity:
    """One call of each, on the first inputs that the model takes; both are left as they were.

    Raises TechniqueError where the result's answer is not as near to the model's as promised, or there is none; it
    names the layers to blame, and says what is to be typed.
    """
    if would_compile(model):
        return Fidelity(None, "a compiled model would be compiled for it")
    with visited(model, result), nothing_prepared():
        called, why = first_answer(model, data)
        if called is None:
            return _by_layers(name, promise.least, replaced(model, result), why)
        return _whole(name, promise, model, result, called)


def would_compile(model: nn.Module) -> bool:
    """Whether a call compiles the model, or a part of it: that takes from seconds to minutes."""
    return any(COMPILED in own_modules(module) for module in model.modules()) or is_compiled(model)


@dataclass(frozen=True)
class Called:
    """A call of the model that gave finite numbers: what it was called on, and what it answered."""

    on: str
    inputs: Inputs
    answers: list[Tensor]


def first_answer(model: nn.Module, data: Digested) -> tuple[Called | None, str]:
    """The first call that the model takes; or None, and why there is none."""
    why = "no inputs were given, and it has no dummy_inputs"
    for on, inputs in examples(model, data):
        try:
            called = Called(on, inputs, answers(model, inputs))
        except Exception as error:  # it is somebody's model, and these may be no inputs for it
            why = f"it cannot be called on {on}: {first_line(error)}"
            continue
        if any(tensor.isfinite().any() for tensor in called.answers):
            return called, ""
        why = f"on {on} it answers no finite real numbers"
    return None, why


def _whole(name: str, promise: Promise, model: nn.Module, result: nn.Module, called: Called) -> Fidelity:
    inputs, before, on = called.inputs, called.answers, called.on
    raised: list[str] = []

    def run() -> float:
        try:
            return decibels(before, answers(result, inputs))
        except Exception as error:  # a layer that was replaced may break its model in any way
            raised.append(first_line(error))
            return -math.inf

    reached = run()
    if reached >= promise.usual:
        return Fidelity(round(reached, 1), on)
    itself = decibels(before, answers(model, inputs))
    if not itself >= promise.usual:
        return Fidelity(None, f"two calls of the model on {on} differ")
    changed = replaced(model, result)
    noise, apart = (-math.inf, -math.inf) if raised else _expected(model, result, changed, called)
    if reached >= promise.least and apart >= min(promise.usual, noise + _CLEARLY):
        return Fidelity(round(reached, 1), on)
    least_db = min(promise.usual, noise - 1) if noise > promise.least else promise.usual
    what = f"cannot be called: {raised[0]}" if raised else f"is at {reached:.1f} dB, and {least_db:.0f} are promised"
    layers = [layer for layer in changed if layer.places]
    blamed, left = Blame(layers, run, least_db).found()
    raise _error(f"what {name} makes of the {type(model).__name__} {what}, on {on}", blamed, layers, left, least_db)


def _expected(model: nn.Module, result: nn.Module, layers: Sequence[Layer], called: Called) -> tuple[float, float]:
    """In dB, how near an answer is that only the outputs of the replaced layers change, and how near that is to ours.

    The model itself is called, and each replaced layer answers in the place of the one that it was made of. Whatever
    else a layer is to its model (somebody reads its weight, or its type) is as it was: where the result is much further
    off than that, it is not by the noise of quantization.
    """
    handles = [layer.before.register_forward_hook(_Instead(layer.after), with_kwargs=True) for layer in layers]
    try:
        expected = answers(model, called.inputs)
    except Exception:  # a layer may be called in ways that its replacement does not know
        return -math.inf, -math.inf
    finally:
        for handle in handles:
            handle.remove()
    return decibels(called.answers, expected), decibels(expected, answers(result, called.inputs))


class _Instead:
    """A forward hook that answers with another module's output."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, layer: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        return self.module(*args, **kwargs)


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
