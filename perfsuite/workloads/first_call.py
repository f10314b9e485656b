"""Making the program and calling it once: from a model to its first answer, with all libraries loaded."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from perfsuite.protocols import Inputs, ModelSpec, Prepared, Program
from perfsuite.workloads.rebuilding import Rebuilding

NAME = "first-call"


@dataclass(frozen=True)
class FirstCall:
    """One repetition is one ``Runtime.load`` and one forward pass, which compiles what is compiled late."""

    name: str = NAME
    needs: frozenset[str] = frozenset()

    def prepare(self, program: Program, spec: ModelSpec, inputs: Inputs) -> Prepared:
        rebuilding = Rebuilding(program, NAME)
        return rebuilding.prepared(partial(rebuilding.answer, inputs), inputs)


WORKLOAD = FirstCall()
