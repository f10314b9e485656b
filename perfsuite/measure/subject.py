"""What is measured: a workload prepared on a program, or a callable. Each thing is found out once.

The gate, comparisons and benchmarks measure nothing else. Importing this imports no torch, and timing a callable
does not either.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, TypeVar

from perfsuite.case import EAGER
from perfsuite.errors import UsageError
from perfsuite.files import bytes_of
from perfsuite.measure.accelerators import Accelerator, Awaited, name_of, of_device, started, used_by, wait_for
from perfsuite.measure.programs import loaded, rebuilt
from perfsuite.measure.repeatable import NOTHING_BEHIND, RESET, Repeatable
from perfsuite.metric import DISPATCH, FILES, GRAPH, LAYERS, PYTHON, TARGET, TASK, TRAINING, WEIGHTS
from perfsuite.protocols import Inputs, ModelSpec, Operators, Prepared, Program, Runtime, Task, Workload
from perfsuite.spec import Context
from perfsuite.temporary import delete

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from perfsuite.measure.steps import Steps
    from perfsuite.measure.trace import Trace
    from perfsuite.storage import Stored

R = TypeVar("R")
_MORE_CALLS = 2  # to settle


class Subject:
    """One repetition to run, and the program behind it if there is one.

    ``inputs`` are what the program is called with, ``runtime`` what runs it, ``device`` where; of a callable nobody
    knows, so that a first call shows it. ``make_task`` gives what scores it.
    """

    def __init__(
        self,
        prepared: Prepared,
        program: Program | None = None,
        *,
        label: str = "",
        inputs: Inputs | None = None,
        runtime: str = EAGER,
        device: torch.device | None = None,
        make_task: Callable[[], Task] | None = None,
    ) -> None:
        self.prepared = prepared
        self.program = program
        self.label = label
        self.inputs = inputs or Inputs()
        self.runtime = runtime
        self.make_task = make_task
        self._device = device

    @staticmethod
    def of_callable(call: Callable[[], object], label: str = "") -> Subject:
        return Subject(Prepared(call), label=label)

    @staticmethod
    def of_model(
        model: nn.Module, inputs: Inputs, label: str = "", make_task: Callable[[], Task] | None = None
    ) -> Subject:
        """The forward pass of a module, in eager torch."""
        from perfsuite.models.devices import device_of
        from perfsuite.runtimes.eager import program
        from perfsuite.workloads.forward import forward_pass

        eager = program(model)
        return Subject(
            forward_pass(eager, inputs), eager, label=label, inputs=inputs, device=device_of(model), make_task=make_task
        )

    @staticmethod
    def on_runtime(
        module: nn.Module, runtime: Runtime, workload: Workload, spec: ModelSpec, inputs: Inputs, *,
        label: str, device: torch.device,
    ) -> Subject:  # fmt: skip
        """A workload of a module, on a runtime, whose files are removed with the subject."""
        program, folder = loaded(runtime, module, inputs)
        program = replace(program, rebuild=partial(rebuilt, runtime, module, inputs))
        if hidden := sorted(workload.needs - program.observable):
            raise UsageError(
                f"the workload {workload.name!r} needs {', '.join(hidden)}, which the runtime {runtime.name!r} "
                "does not have",
                "gate it on another runtime, such as 'eager'",
            )
        prepared = workload.prepare(program, spec, inputs)
        made = Subject(
            prepared,
            program,
            label=label,
            inputs=prepared.inputs or inputs,
            runtime=runtime.name,
            device=device,
            make_task=spec.task,
        )
        if folder:
            weakref.finalize(made, delete, folder)
        return made

    @cached_property
    def call(self) -> Callable[[], object]:
        """One repetition, from the same state each time."""
        if self.program is None:
            return self.prepared.call
        remedy = RESET if self.prepared.reset else NOTHING_BEHIND
        return Repeatable(self.prepared.call, self.prepared.reset, remedy=remedy)

    def restore(self) -> None:
        """Bring back the state before the first repetition: what is counted or scored has not been trained by us."""
        if self.prepared.reset is not None:
            self.prepared.reset()

    @cached_property
    def ready(self) -> Callable[[], object]:
        """The call, after a first one, which may compile or initialise something."""
        self.call()
        return self.call

    @cached_property
    def arm(self) -> Callable[[], object]:
        """The call, over when the devices that it uses have done its work: what is timed."""
        return awaited(self.call, self.accelerators)

    @cached_property
    def accelerators(self) -> tuple[Accelerator, ...]:
        return used_by(self.call, started()) if self._device is None else of_device(self._device)

    @property
    def accelerator(self) -> str:
        """For a machine class; empty where there is none."""
        return name_of(self.accelerators)

    @property
    def device(self) -> str:
        """Where it computes, as torch names it."""
        return self.accelerators[0].device if self.accelerators else "cpu"

    @cached_property
    def model(self) -> nn.Module | None:
        """The program in the shape of a module; None of a callable."""
        from perfsuite.measure.engines import as_module

        return None if self.program is None else as_module(self.program.call)

    def context(self) -> Context:
        if self.program is None and "torch" not in sys.modules:
            return Context("not imported", "")
        import torch

        from perfsuite.measure.context import context

        return context(torch.device(self.device), self.model, self.program.versions if self.program else {})

    @cached_property
    def task(self) -> Task | None:
        """Real data that scores the program; made when it is first asked for."""
        return self.make_task() if self.make_task else None

    @cached_property
    def outputs(self) -> Mapping[str, Tensor]:
        """What fidelity compares: dense, in float64 on the CPU. Raises NonFiniteError, OutputError."""
        from perfsuite.measure.outputs import check_output

        self.restore()
        made = self.prepared.outputs() if self.prepared.outputs else {"output": self.call()}
        return {name: check_output(output, self.label) for name, output in made.items()}

    @property
    def output(self) -> Tensor:
        """The first of them, and of a forward pass the only one."""
        return next(iter(self.outputs.values()))

    @cached_property
    def stored(self) -> Stored:
        """Counted in the file that the model is saved to."""
        from perfsuite.storage import count_stored

        if self.model is None:
            raise UsageError(f"{self.label} is a plain callable: it has no weights to save or count", "gate a model")
        self.restore()
        return count_stored(self.model)

    @property
    def size_bytes(self) -> int:
        """Of the files that are deployed; where a runtime writes none, of the file that the model is saved to."""
        files = self.program.files if self.program else ()
        return bytes_of(files) if files else self.stored.size_bytes

    @property
    def trace(self) -> Trace:
        """One recorded call."""
        return self._traces[0]

    @property
    def operators(self) -> Mapping[str, int]:
        """How often each is called: as torch dispatches them, or in the graph that another runtime has optimized."""
        return self.trace.operators if self._optimized is None else self._optimized.calls

    @cached_property
    def layers(self) -> Mapping[str, int]:
        """Products with weights, by the precision that they are computed in."""
        from perfsuite.measure.engines import layers_of

        if self._optimized is not None:
            return self._optimized.layers
        return layers_of(self.model) if self.model is not None else {}

    @property
    def why_no_layers(self) -> str:
        """Why nothing is known of the products with weights, if so."""
        if self._optimized is None and self.why_not_seen:
            return self.why_not_seen
        return "" if self.layers else "it has no product with weights"

    @cached_property
    def _optimized(self) -> Operators | None:
        return self.program.operators() if self.program is not None and self.program.operators is not None else None

    @property
    def was_traced(self) -> bool:
        return "_traces" in self.__dict__

    @cached_property
    def why_not_seen(self) -> str:
        """Why what torch dispatches is not what a call does, if it is not."""
        if self.program is not None and not self.program.observable >= DISPATCH:
            return f"the runtime {self.runtime!r} does not show its operators"
        return self._why_not_traced

    @cached_property
    def _why_not_traced(self) -> str:
        """The same of the traced call, which is eager: a compiled program hides its operators, not its weights."""
        from perfsuite.measure.engines import why_not_seen

        return why_not_seen(self._traces, self.model, self._given)

    @cached_property
    def why_not_stored(self) -> str:
        """Why the saved file does not hold what a model computes with, if it does not."""
        from perfsuite.measure.engines import why_not_stored

        if self.program is None or self.model is None:
            return ""
        if not self.program.observable >= WEIGHTS:
            return f"the runtime {self.runtime!r} does not show its weights"
        return why_not_stored(self.model, self.trace, self._why_not_traced)

    @property
    def varies(self) -> str:
        """In what two calls differ, if they do: then nothing that is seen at dispatch is exact."""
        from perfsuite.measure.trace import difference

        return difference(*self._traces)

    @cached_property
    def _given(self) -> tuple[Tensor, ...]:
        from torch import Tensor

        from perfsuite._compat.torch import tree_leaves

        leaves = tree_leaves((self.inputs.args, dict(self.inputs.kwargs)))
        return tuple(leaf for leaf in leaves if isinstance(leaf, Tensor))

    @cached_property
    def _traces(self) -> tuple[Trace, Trace]:
        """Two calls in a row that agree; the first calls, which may initialise something, need not."""
        from perfsuite.measure.trace import trace

        return _agreeing(partial(trace, self.ready, self.prepared.held, self._given))

    @property
    def python_calls(self) -> Mapping[str, int]:
        """How often functions of the project run in one call, by qualified name."""
        return self._python_calls[0]

    @property
    def why_python_varies(self) -> str:
        """In what two calls differ, if other functions run in the next."""
        from perfsuite.measure.python_calls import why_not_counted

        if why := why_not_counted():
            return why
        one, other = self._python_calls
        changed = next((name for name in sorted({*one, *other}) if one.get(name) != other.get(name)), None)
        if changed is None:
            return ""
        return f"one call runs {changed} {one.get(changed, 0)} times, the next {other.get(changed, 0)} times"

    @cached_property
    def _python_calls(self) -> tuple[Mapping[str, int], Mapping[str, int]]:
        """Of two calls in a row that agree, as traces do."""
        from perfsuite.measure.python_calls import python_calls

        return _agreeing(partial(python_calls, self.ready))

    @cached_property
    def steps(self) -> Steps:
        """What can be observed of it as a training step."""
        from perfsuite.measure.steps import Steps

        if self.prepared.training is None:
            raise UsageError(f"{self.label} is no training step", "gate it with workload='train'")
        return Steps(self.prepared.training, self.restore)

    def may_have(self, needs: frozenset[str]) -> bool:
        """Whether it is of the kind that these can be observed of: a plain callable has no weights and no task."""
        if needs >= TRAINING and self.prepared.training is None:
            return False
        return self.program is not None or not needs & (WEIGHTS | FILES | TASK | LAYERS)

    def why_missing(self, needs: frozenset[str]) -> str:
        """Why not all of these can be observed (perfsuite.metric.OBSERVABLE); empty if they can."""
        shows_graph = self.program is not None and self.program.operators is not None
        is_traced = needs >= DISPATCH or (needs >= GRAPH and not shows_graph)
        if is_traced and (why := self.why_not_seen or self.varies):
            return why
        if needs >= PYTHON and self.why_python_varies:
            return self.why_python_varies
        is_deployed = self.program is not None and bool(self.program.files)
        if (needs >= WEIGHTS or (needs >= FILES and not is_deployed)) and self.why_not_stored:
            return self.why_not_stored
        if needs >= LAYERS and self.why_no_layers:
            return self.why_no_layers
        if needs >= TRAINING and self.prepared.training is None:
            return "it is no training step: workload='train' is one"
        if needs >= TARGET and self.prepared.training.spec.target_loss is None:
            return "the model's spec names no target_loss"
        return "the model has no task" if needs >= TASK and self.make_task is None else ""

    def fidelity_to(self, original: Subject) -> dict[str, float]:
        """How well its outputs follow the original's: ``sqnr`` and ``agreement``. Raises OutputError."""
        from perfsuite.measure.outputs import fidelity_of_all

        return fidelity_of_all(original.outputs, self.outputs)


def _agreeing(record: Callable[[], R]) -> tuple[R, R]:
    """What is recorded of two calls in a row that agree, or of the last two."""
    before, after = record(), record()
    for _ in range(_MORE_CALLS):
        if before == after:
            break
        before, after = after, record()
    return before, after


def awaited(call: Callable[[], object], accelerators: tuple[Accelerator, ...]) -> Callable[[], object]:
    return Awaited(call, partial(wait_for, accelerators)) if accelerators else call
