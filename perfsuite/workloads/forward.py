"""One forward pass in eval mode, without gradients unless the model computes some itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from perfsuite.case import FORWARD
from perfsuite.errors import ModelError
from perfsuite.protocols import Inputs, ModelSpec, Prepared, Program, wants_gradients
from perfsuite.techniques.common import main_output


@dataclass(frozen=True)
class Forward:
    """Runs on any program, and leaves nothing behind. Its output is the model's main one."""

    name: str = FORWARD
    needs: frozenset[str] = frozenset()

    def prepare(self, program: Program, spec: ModelSpec, inputs: Inputs) -> Prepared:
        return forward_pass(program, inputs)


WORKLOAD = Forward()


def forward_pass(program: Program, inputs: Inputs) -> Prepared:
    call = forward_call(program.call, inputs)

    def outputs() -> Mapping[str, Tensor]:
        return {"output": main_output(call())}

    return Prepared(call, held=weights_of(program), outputs=outputs)


def weights_of(program: Program) -> tuple[Tensor, ...]:
    """Parameters and buffers, which are alive whether a call uses them or not."""
    model = program.call
    return (*model.parameters(), *model.buffers()) if isinstance(model, nn.Module) else ()


def forward_call(model: Callable[..., object], inputs: Inputs) -> Callable[[], object]:
    """A callable that runs one forward pass, without gradients unless the model's spec asks for them."""
    has_gradients = isinstance(model, nn.Module) and wants_gradients(model)
    mode = torch.enable_grad if has_gradients else torch.no_grad

    def forward() -> object:
        try:
            with mode():
                return model(*inputs.args, **inputs.kwargs)
        except (RuntimeError, AssertionError) as error:
            for words, what, remedy in _KNOWN if mode is torch.no_grad else _KNOWN_WITH_GRADIENTS:
                if words in str(error):
                    raise ModelError(f"{what}: {error}", remedy) from error
            raise

    return forward


_EXPORTED = (
    "Guard failed",
    "the model was exported for other inputs",
    "export it with dynamic shapes, or name the batch sizes that it takes: batch_sizes=[...]",
)
_KNOWN = (
    _EXPORTED,
    (
        "does not require grad",
        "the forward pass computes gradients, and is called without them",
        "register the model with grad=True: ModelSpec(name, build, inputs, grad=True)",
    ),
)
_KNOWN_WITH_GRADIENTS = (
    _EXPORTED,
    (
        "not have been used in the graph",
        "the forward pass computes gradients through layers that have none",
        "choose a technique whose layers can be differentiated, such as 'bf16' or 'magnitude-50'",
    ),
)
