"""Eager torch: the module itself, in which everything can be observed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from perfsuite.case import EAGER
from perfsuite.metric import DISPATCH, WEIGHTS
from perfsuite.protocols import AUTOGRAD, Inputs, Program

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Eager:
    """Takes any module, and any workload."""

    name: str = EAGER

    def load(self, module: nn.Module, inputs: Inputs, folder: Path) -> Program:
        return program(module)


def program(module: nn.Module) -> Program:
    """The module as a program; nothing is written anywhere."""
    return Program(module, observable=DISPATCH | WEIGHTS | AUTOGRAD)


RUNTIME = Eager()
