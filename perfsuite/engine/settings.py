"""What a module can set for the whole process, so that it does not leak from one view into the other."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ProcessSettings:
    """The environment, and torch's process-wide switches if torch is loaded."""

    environment: Mapping[str, str]
    switches: tuple[tuple[str, Any], ...]

    @staticmethod
    def now() -> ProcessSettings:
        return ProcessSettings(dict(os.environ), tuple((name, read()) for name, read, _ in _torch_switches()))

    def restore(self) -> None:
        """Set what differs from now."""
        if dict(os.environ) != self.environment:
            os.environ.clear()
            os.environ.update(self.environment)
        before = dict(self.switches)
        for name, read, write in _torch_switches():
            if name in before and read() != before[name]:
                write(before[name])


def _torch_switches() -> Iterator[tuple[str, Callable[[], Any], Callable[[Any], object]]]:
    """(name, read, write) of torch's process-wide switches."""
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return
    yield "threads", torch.get_num_threads, torch.set_num_threads
    yield "dtype", torch.get_default_dtype, torch.set_default_dtype
    yield "gradients", torch.is_grad_enabled, torch.set_grad_enabled
    yield "matmul", torch.get_float32_matmul_precision, torch.set_float32_matmul_precision
    yield "deterministic", torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms
    yield "mkldnn", torch._C._get_mkldnn_enabled, torch._C._set_mkldnn_enabled


class SharedCode:
    """Functions of shared libraries by identity: a project that replaces one reaches both views at once."""

    MODULES = ("torch", "torch.nn", "torch.nn.functional", "numpy", "transformers")
    CLASSES = (("torch", "Tensor"), ("torch.nn", "Module"), ("torch.nn", "Linear"), ("torch.nn", "MultiheadAttention"))

    def __init__(self) -> None:
        self._seen = dict(self._callables())

    def replaced(self, is_projects: Callable[[Path], bool]) -> tuple[str, ...]:
        """Names that hold the project's code and did not before; libraries also exchange their own functions."""
        changed = [name for name, value in self._callables() if self._seen.get(name) is not value]
        now = dict(self._callables())
        return tuple(sorted(name for name in changed if (file := _defined_in(now[name])) and is_projects(file)))

    def _callables(self) -> Iterator[tuple[str, Any]]:
        spaces = [(name, sys.modules[name]) for name in self.MODULES if name in sys.modules]
        spaces += [
            (f"{module}.{name}", getattr(sys.modules[module], name))
            for module, name in self.CLASSES
            if module in sys.modules
        ]
        for prefix, space in spaces:
            for name, value in vars(space).copy().items():
                if callable(value):
                    yield f"{prefix}.{name}", value


def _defined_in(value: Any) -> Path | None:
    """The file of a function's own code, or of a class's module."""
    value = getattr(value, "func", value)  # functools.partial
    code = getattr(value, "__code__", None)
    if code is not None:
        return Path(code.co_filename).resolve()
    module = sys.modules.get(getattr(value, "__module__", None) or "")
    file = getattr(module, "__file__", None)
    return Path(file).resolve() if file else None
