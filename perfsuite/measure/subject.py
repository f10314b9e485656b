"""One arm, ready to be measured: the exact metrics read what it computes, each thing once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property, partial
from itertools import chain

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from perfsuite.errors import ModelError, NonFiniteError, OutputError, UsageError
from perfsuite.measure.engines import why_not_seen, why_not_stored
from perfsuite.measure.repeatable import NOTHING_BEHIND, Repeatable
from perfsuite.measure.trace import Trace, difference, trace
from perfsuite.metric import DISPATCH, TASK, WEIGHTS
from perfsuite.protocols import Inputs, Task, wants_gradients
from perfsuite.spec import Context
from perfsuite.storage import Stored, count_stored
from perfsuite.techniques.common import main_output
from perfsuite.techniques.quantization.kernels import kernel_name
from perfsuite.techniques.quantization.layers import Int8Linear

_MORE_CALLS = 2  # to settle


class Subject:
    """A callable to run, and the model behind it, with its task, if there is one."""

    def __init__(
        self, call: Callable[[], object], model: nn.Module | None = None, label: str = "",
        given: Iterable[object] = (), make_task: Callable[[], Task] | None = None,
    ) -> None:  # fmt: skip
        self.call = call
        self.model = model
        self.label = label
        self._make_task = make_task
        self.given = tuple(leaf for leaf in given if isinstance(leaf, Tensor))

    @classmethod
    def of_model(
        cls, model: nn.Module, inputs: Inputs, label: str = "", make_task: Callable[[], Task] | None = None
    ) -> Subject:
        call = Repeatable(forward_call(model, inputs), remedy=NOTHING_BEHIND)
        return cls(call, model, label, tree_leaves((inputs.args, dict(inputs.kwargs))), make_task)

    @cached_property
    def ready(self) -> Callable[[], object]:
        """The call, after a first one, which may compile or initialise something."""
        self.call()
        return self.call

    @cached_property
    def output(self) -> Tensor:
        """What a call returns, as ``check_output`` has it."""
        return check_output(self.call(), self.label)

    def fidelity_to(self, original: Subject) -> dict[str, float]:
        """How well this output follows the original's: see ``fidelity``."""
        return fidelity(original.output, self.output)

    @cached_property
    def task(self) -> Task | None:
        return self._make_task() if self._make_task else None

    @cached_property
    def stored(self) -> Stored:
        """Counted in the file that the model is saved to."""
        if self.model is None:
            raise UsageError(f"{self.label} is a plain callable: it has no weights to save or count", "gate a model")
        return count_stored(self.model)

    @property
    def trace(self) -> Trace:
        """One recorded call."""
        return self._traces[0]

    @cached_property
    def why_not_seen(self) -> str:
        """Why what torch dispatches is not what a call does, if it is not."""
        return why_not_seen(self._traces, self.model, self.given)

    @cached_property
    def why_not_stored(self) -> str:
        """Why the saved file does not hold what a model computes with, if it does not."""
        return why_not_stored(self.model, self.trace, self.why_not_seen) if self.model is not None else ""

    @property
    def varies(self) -> str:
        """In what two calls differ, if they do: then nothing that is seen at dispatch is exact."""
        return difference(*self._traces)

    @cached_property
    def _traces(self) -> tuple[Trace, Trace]:
        """Two calls in a row that agree; the first calls, which may initialise something, need not."""
        record = partial(trace, self.ready)
        held: tuple[Tensor, ...] = ()
        if self.model is not None:
            held = tuple(chain(self.model.parameters(), self.model.buffers()))
        before, after = record(held, self.given), record(held, self.given)
        for _ in range(_MORE_CALLS):
            if before == after:
                break
            before, after = after, record(held, self.given)
        return before, after

    def may_have(self, needs: frozenset[str]) -> bool:
        """Whether it is of the kind that these can be observed of: a plain callable has no weights and no task."""
        return self.model is not None or not needs & (WEIGHTS | TASK)

    def why_missing(self, needs: frozenset[str]) -> str:
        """Why not all of these can be observed (perfsuite.metric.OBSERVABLE); empty if they can."""
        if needs >= DISPATCH and (why := self.varies or self.why_not_seen):
            return why
        if needs >= WEIGHTS and self.why_not_stored:
            return self.why_not_stored
        return "the model has no task" if needs >= TASK and self.task is None else ""


def forward_call(model: nn.Module, inputs: Inputs) -> Callable[[], object]:
    """A callable that runs one forward pass, without gradients unless the model's spec asks for them."""
    mode = torch.enable_grad if wants_gradients(model) else torch.no_grad

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


def context(device: torch.device, model: nn.Module | None = None) -> Context:
    """What dispatch-derived numbers depend on: torch's version, and the int8 kernel where int8 layers may run.

    A callable without a known model may run some.
    """
    may_run_int8 = model is None or any(isinstance(module, Int8Linear) for module in model.modules())
    kernels = f"int8:{kernel_name(device)}" if may_run_int8 else "torch's own"
    return Context(torch.__version__.partition("+")[0], kernels)


def check_output(output: object, label: str) -> Tensor:
    """The main output, dense, in float64 on the CPU.

    Raises NonFiniteError, naming the case, if it holds NaN or infinity; OutputError if there is nothing to compare.
    """
    tensor = _dense(main_output(output).detach(), label)
    if not bool(torch.isfinite(tensor).all()):
        raise NonFiniteError(
            f"the output of {label} has NaN or infinite values",
            "check the weights and the inputs, or use bf16 for fp16",
        )
    return tensor.double()


def _dense(tensor: Tensor, label: str) -> Tensor:
    try:
        tensor = tensor.dequantize() if tensor.is_quantized else tensor
        tensor = tensor.cpu() if tensor.layout is torch.strided else tensor.to_dense().cpu()
        return torch.view_as_real(tensor) if tensor.is_complex() else tensor
    except (RuntimeError, NotImplementedError) as error:
        raise OutputError(
            f"the output of {label}, a {tensor.layout} tensor of {tensor.dtype} on {tensor.device}, cannot be compared",
            "return a dense tensor of numbers",
        ) from error


def fidelity(original: Tensor, candidate: Tensor) -> dict[str, float]:
    """How well a candidate's output (..., C) follows the original's.

    ``sqnr``: signal to quantization noise, in dB, capped at 300 for equal outputs. ``agreement``:
    the fraction of rows whose largest entry is the same one. Raises OutputError for other shapes.
    """
    if original.shape != candidate.shape:
        raise OutputError(
            f"the output has shape {tuple(candidate.shape)}, the original's {tuple(original.shape)}",
            "compare forms of one model",
        )
    noise, signal = (original - candidate).norm(), original.norm()
    sqnr = 300.0 if noise == 0 else min(300.0, float(20 * torch.log10(signal / noise)))
    agreement = float((original.argmax(-1) == candidate.argmax(-1)).double().mean())
    return {"sqnr": sqnr, "agreement": agreement}
