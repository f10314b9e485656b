"""What a model answers on the inputs that there are, to compare results with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from perfsuite._compat.torch import COMPILED, is_compiled, own_modules
from perfsuite.errors import first_line
from perfsuite.protocols import Inputs
from perfsuite.techniques.comparing import answers
from perfsuite.techniques.examples import FIRST_BATCH, examples, other_batches

if TYPE_CHECKING:
    from perfsuite.techniques.recorded import Digested


@dataclass(frozen=True)
class Called:
    """A call of the model that gave finite numbers: what it was called on, and what it answered."""

    on: str
    inputs: Inputs
    answers: list[Tensor]


def would_compile(model: nn.Module) -> bool:
    """Whether a call compiles the model, or a part of it: that takes from seconds to minutes."""
    return any(COMPILED in own_modules(module) for module in model.modules()) or is_compiled(model)


def first_answer(model: nn.Module, data: Digested) -> tuple[Called | None, str]:
    """The first call that the model takes; or None, and why there is none."""
    why = "no inputs were given, and it has no dummy_inputs"
    for on, inputs in examples(model, data):
        called, why = _called(model, on, inputs)
        if called is not None:
            return called, ""
    return None, why


def other_answers(model: nn.Module, data: Digested, first: Called) -> Iterator[Called]:
    """Calls on a few more batches, each made when it is asked for; of data whose first one the model takes."""
    for on, inputs in other_batches(model, data) if first.on == FIRST_BATCH else ():
        called, _ = _called(model, on, inputs)
        if called is not None:
            yield called


def _called(model: nn.Module, on: str, inputs: Inputs) -> tuple[Called | None, str]:
    try:
        called = Called(on, inputs, answers(model, inputs))
    except Exception as error:  # it is somebody's model, and these may be no inputs for it
        return None, f"it cannot be called on {on}: {first_line(error)}"
    if any(tensor.isfinite().any() for tensor in called.answers):
        return called, ""
    return None, f"on {on} it answers no finite real numbers"
