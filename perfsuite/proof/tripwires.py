"""Watching functions run: each that matters says so in its first statement, in every thread, at next to no cost.

A profile hook would slow everything down, and sees one thread. A module is compiled with its tripwires when it is
imported; nothing of that is ever written to a file of byte code.
"""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from itertools import count
from pathlib import Path
from types import CodeType, ModuleType

from perfsuite.proof.definitions import first_line
from perfsuite.proof.mentions import Tripwire, functions_of
from perfsuite.proof.scopes import stem_of

_numbers = count(1)


class Tripwires(MetaPathFinder):
    """Finds the modules that have some, and loads them with these. ``planned``: by file, as ``Path.resolve`` names it.

    A module that another loader than Python's own would load is left to it.
    """

    def __init__(self, planned: Mapping[str, Sequence[Tripwire]]) -> None:
        self.ran: set[int] = set()
        self._name = f"__perfsuite_ran_{next(_numbers)}__"  # a process may have many runs, each with its own
        self.loaded: set[str] = set()  # files that have been loaded with their tripwires
        self.all = tuple((file, wire) for file, wires in planned.items() for wire in wires)
        self._numbers = {(file, wire.line): number for number, (file, wire) in enumerate(self.all)}
        self._planned = planned
        self._names = set(map(stem_of, planned))

    def install(self) -> None:
        setattr(builtins, self._name, self.ran.add)
        sys.meta_path.insert(0, self)

    def uninstall(self) -> None:
        """Modules that are loaded go on telling."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.rpartition(".")[2] not in self._names:
            return None
        spec = self._found_by_others(fullname, path, target)
        if spec is None or not spec.origin or type(spec.loader) is not SourceFileLoader:
            return spec
        file = str(Path(spec.origin).resolve())
        if file in self._planned:
            self.loaded.add(file)
            spec.loader = _Loader(fullname, spec.origin, self._lines(file), self._name)
        return spec

    def _found_by_others(self, name: str, path: Sequence[str] | None, target: ModuleType | None) -> ModuleSpec | None:
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find(name, path, target) if find and finder is not self else None
            if spec is not None:
                return spec
        return None

    def _lines(self, file: str) -> dict[int, int]:
        return {line: number for (path, line), number in self._numbers.items() if path == file}


class _Loader(SourceFileLoader):
    """Compiles with tripwires, and neither reads nor writes a file of byte code."""

    def __init__(self, fullname: str, path: str, lines: Mapping[int, int], function: str) -> None:
        super().__init__(fullname, path)
        self._lines = lines
        self._function = function

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        module = ast.parse(self.get_data(path), filename=path)
        code = compile(with_tripwires(module, self._lines, self._function), path, "exec", dont_inherit=True)
        assert isinstance(code, CodeType)
        return code


def with_tripwires(module: ast.Module, lines: Mapping[int, int], says_it: str) -> ast.Module:
    """The module, in which a function that starts at a line says its number first. It is changed in place.

    ``says_it`` is the name of a built-in function that takes the number.
    """
    for _, function in functions_of(module):
        line = first_line(function)
        if line in lines:
            says = ast.parse(f"{says_it}({lines[line]})").body[0]
            for node in ast.walk(says):
                ast.copy_location(node, function.body[0])
            has_docstring = ast.get_docstring(function) is not None
            function.body.insert(1 if has_docstring else 0, says)
    return module
