"""Making the program: what a deployment does once for a model, in a process that has all libraries loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from perfsuite.protocols import Inputs, ModelSpec, Prepared, Program
from perfsuite.techniques.common import main_output
from perfsuite.workloads.forward import forward_call, weights_of
from perfsuite.workloads.rebuilding import Rebuilding

NAME = "build"


@dataclass(frozen=True)
class Build:
    """One repetition is one ``Runtime.load``, in a new folder. The output is that of a first call."""

    name: str = NAME
    needs: frozenset[str] = frozenset()

    def prepare(self, program: Program, spec: ModelSpec, inputs: Inputs) -> Prepared:
        rebuilding = Rebuilding(program, NAME)

        def call() -> None:
            with rebuilding.anew():
                pass

        def outputs() -> Mapping[str, Tensor]:
            with rebuilding.anew() as made:
                return {"output": main_output(forward_call(made.call, inputs)())}

        return Prepared(call, rebuilding.clear, weights_of(program), outputs)


WORKLOAD = Build()
