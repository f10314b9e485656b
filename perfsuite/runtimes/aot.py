"""AOTInductor on the CPU: a module compiled ahead of time into native code, which is loaded without a compiler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from perfsuite.errors import StorageError, UnavailableError, first_line
from perfsuite.protocols import Inputs, Program
from perfsuite.runtimes.toolchain import cpp_compiler_for

if TYPE_CHECKING:
    from torch import Tensor, nn

    from perfsuite.export.signature import Signature

NAME = "aot"
FILE = "model.pt2"


@dataclass(frozen=True)
class AheadOfTime:
    """``load`` writes ``model.pt2``, for any number of threads, and for CPUs with this one's vector instructions."""

    name: str = NAME
    runs_machine_code: bool = True

    def check(self) -> None:
        """Raises UnavailableError without a C++ compiler, which only building needs."""
        cpp_compiler_for(NAME)

    def built_for(self) -> dict[str, str]:
        import torch

        return {"torch": str(torch.__version__)}

    def load(self, module: nn.Module, inputs: Inputs, folder: Path) -> Program:
        """Raises UnavailableError without a C++ compiler, TechniqueError for a module that cannot be compiled."""
        from perfsuite.export.graph import exported
        from perfsuite.export.native import write_package

        compiler = cpp_compiler_for(NAME)
        graph = exported(module, inputs)
        write_package(graph.program, folder / FILE, compiler)
        return self.open(folder, graph.signature)

    def open(self, folder: Path, signature: Signature) -> Program:
        """A program of the file in the folder.

        This executes native code of the file, with all rights of this process: open only what you trust.
        Raises StorageError for a file that does not load, UnavailableError for one that was built for other CPUs.
        """
        from perfsuite._compat.torch import load_package
        from perfsuite.export.files import deployed
        from perfsuite.export.native import built_with, why_not_here
        from perfsuite.runtimes.exported import ExportedCall

        versions = built_with(folder / FILE)
        if why := why_not_here(versions):
            raise UnavailableError(f"{FILE} cannot run here: {why}", "build it on this machine, or on one like it")
        try:
            run = load_package(folder / FILE)
        except RuntimeError as error:
            why = first_line(error)
            raise StorageError(f"{FILE} does not load: {why}", "build it again, with this torch") from error
        return Program(ExportedCall(signature, partial(_run, run)), deployed(folder), versions)


def _run(run: Callable[[list[Tensor]], list[Tensor]], tensors: Sequence[Tensor]) -> list[Tensor]:
    return run([tensor.detach().contiguous() for tensor in tensors])


RUNTIME = AheadOfTime()
