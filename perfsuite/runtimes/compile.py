"""torch.compile, which compiles a module when it is first called. It needs a C++ compiler.

What torch dispatches is not what a compiled call does, so that operators, FLOPs and peak memory are not measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from perfsuite.metric import WEIGHTS
from perfsuite.protocols import AUTOGRAD, Inputs, Program
from perfsuite.runtimes.toolchain import cpp_compiler_for

if TYPE_CHECKING:
    from torch import nn

NAME = "compile"


@dataclass(frozen=True)
class Compile:
    """``load`` writes nothing and compiles nothing yet: the first call does, into the compiler's own cache."""

    name: str = NAME

    def check(self) -> None:
        """Raises UnavailableError without a C++ compiler."""
        cpp_compiler_for(NAME)

    def load(self, module: nn.Module, inputs: Inputs, folder: Path) -> Program:
        """A compiled copy. Raises UnavailableError without a C++ compiler."""
        from perfsuite._compat.torch import compile_alone
        from perfsuite.techniques.ties import copied

        cpp_compiler_for(NAME)
        return Program(compile_alone(copied(module)), observable=WEIGHTS | AUTOGRAD)


RUNTIME = Compile()
