"""Whether two revisions of a project can share a process: what reaches both would make them look equal."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

_ONCE = re.compile(r"torch\.(_library|library|ops\.load_library|utils\.cpp_extension)|from torch import .*\blibrary\b")
_PLAIN = frozenset({str, int, float, bool, bytes, tuple, list, set, frozenset, type(None), type(len), ModuleType})
_WHOLE = (
    "torch.nn.functional",
)  # modules in which even a function that a library itself has replaced counts as exchanged


class SharedCode:
    """Functions of the libraries, as they were before the project was imported."""

    def __init__(self) -> None:
        self._before = {name: dict(vars(sys.modules[name])) for name in _WHOLE if name in sys.modules}

    def exchanged(self) -> Iterator[str]:
        """Names whose function is another one now, whosever it is."""
        for name, before in self._before.items():
            now = vars(sys.modules[name])
            yield from (f"{name}.{key}" for key, value in before.items() if now.get(key) is not value)


def project_code(own: Collection[str], holds: Callable[[Path], bool]) -> Iterator[str]:
    """Names, in shared modules, their classes and their registries, that hold the project's code.

    ``own`` are the names of the project's modules; ``holds`` tells its files.
    """
    is_own = cache(lambda file: Path(file).is_absolute() and holds(Path(file).resolve()))  # not "<string>" and such
    for module in sys.modules.keys() - set(own) - {"sys"}:  # which keeps the last exception, and hooks
        space = getattr(sys.modules.get(module), "__dict__", None)
        if type(space) is dict:
            yield from (name for name, value in _named(module, space, own) if _is_code(value, own, is_own))


def registers_once(modules: Iterable[tuple[str, ModuleType]]) -> Iterator[str]:
    """Modules whose source names what torch keeps once for a process: operators and their kernels."""
    for name, module in modules:
        file = getattr(module, "__dict__", {}).get("__file__") or ""
        if file.endswith(".py") and _names_registration(file):
            yield name


@cache
def _names_registration(file: str) -> bool:
    try:
        return _ONCE.search(Path(file).read_text(encoding="utf-8", errors="replace")) is not None
    except OSError:
        return False


def _named(module: str, space: Mapping[str, Any], own: Collection[str]) -> Iterator[tuple[str, Any]]:
    """What a module holds that may be code, and what its classes and dictionaries hold."""
    for key, value in list(space.items()):
        kind = type(value)
        if kind is dict and key != "__builtins__":
            yield from ((f"{module}.{key}", entry) for entry in list(value.values()))
        elif issubclass(kind, type) and value.__module__ == module:
            yield from _named(f"{module}.{key}", value.__dict__, own)
        elif kind not in _PLAIN:
            yield f"{module}.{key}", value


def _is_code(value: Any, own: Collection[str], is_own: Callable[[str], bool]) -> bool:
    """Whether it is a function, a class, or anything else to call, that the project defines."""
    if type(value) in (staticmethod, classmethod):
        value = value.__func__
    elif type(value) is partial:
        value = value.func
    if type(value) is FunctionType:
        return is_own(value.__code__.co_filename)
    module = value.__dict__.get("__module__") if issubclass(type(value), type) else type(value).__module__
    return type(module) is str and module in own and callable(value)
