"""Programs with their folders, from a runtime. Importing this imports no torch."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from perfsuite.case import EAGER
from perfsuite.protocols import Inputs, Program, Runtime
from perfsuite.temporary import delete, new_folder

if TYPE_CHECKING:
    from torch import nn


def loaded(runtime: Runtime, module: nn.Module, inputs: Inputs) -> tuple[Program, Path | None]:
    """A program, and the folder of its files, which eager torch has none of."""
    if runtime.name == EAGER:
        return runtime.load(module, inputs, Path()), None
    folder = new_folder("program")
    try:
        return runtime.load(module, inputs, folder), folder
    except BaseException:
        delete(folder)
        raise


def rebuilt(runtime: Runtime, module: nn.Module, inputs: Inputs) -> Program:
    """A program whose folder is removed with it."""
    program, folder = loaded(runtime, module, inputs)
    if folder:
        weakref.finalize(program, delete, folder)
    return program
