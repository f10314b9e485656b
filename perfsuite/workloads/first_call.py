"""Making the program and calling it once: from a model to its first answer, with all libraries loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from perfsuite.protocols import Inputs, ModelSpec, Prepared, Program
from perfsuite.techniques.common import main_output
from perfsuite.workloads.forward import forward_call, weights_of
from perfsuite.workloads.rebuilding import Rebuilding

NAME = "first-call"


@dataclass(frozen=True)
class FirstCall:
    """One repetition is one ``Runtime.load`` and one forward pass, which compiles what is compiled late."""

    name: str = NAME
    needs: frozenset[str] = frozenset()

    def prepare(self, program: Program, spec: ModelSpec, inputs: Inputs) -> Prepared:
        rebuilding = Rebuilding(program, NAME)

        def call() -> object:
            with rebuilding.anew() as made:
                return forward_call(made.call, inputs)()

        def outputs() -> Mapping[str, Tensor]:
            return {"output": main_output(call())}

        return Prepared(call, rebuilding.clear, weights_of(program), outputs)


WORKLOAD = FirstCall()
