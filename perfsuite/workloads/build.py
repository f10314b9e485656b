"""Making the program: what a deployment does once for a model, in a process that has all libraries loaded."""

from __future__ import annotations

from dataclasses import dataclass

from perfsuite.protocols import Inputs, ModelSpec, Prepared, Program
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

        return rebuilding.prepared(call, inputs)


WORKLOAD = Build()
