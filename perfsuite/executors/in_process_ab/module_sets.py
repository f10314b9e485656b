"""Two revisions of a project's modules in one process, one visible at a time.

A *module set* is what ``import`` gives: the working tree's modules, or a base revision's from its worktree.
Switching revisions exchanges the project's entries in ``sys.modules``; everything else (torch, pytest) is
shared. In a base revision a finder stands first on ``sys.meta_path`` and answers for the project's files
with their counterparts in the worktree. Tests and conftest files always come from the working tree.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate
from pathlib import Path
from types import ModuleType
from typing import Any

from perfsuite.executors.in_process_ab.finder import BaseFinder
from perfsuite.executors.in_process_ab.project import Project
from perfsuite.executors.in_process_ab.shared import SharedCode, project_code, registers_once
from perfsuite.executors.settings import ProcessSettings

_RUNNING = __name__.partition(".")[0]  # cannot be exchanged
_COMPILED = (".so", ".pyd", ".dylib")


@dataclass
class ModuleSet:
    """The modules that one revision sees while it is hidden. ``tree``: its worktree; None: the working tree."""

    tree: Path | None
    settings: ProcessSettings
    modules: dict[str, ModuleType] = field(default_factory=dict)


class ModuleSets:
    """Switches between the revisions' modules. The revision that is named first is the current one."""

    def __init__(self, project: Project, trees: Mapping[str, Path | None]) -> None:
        self._project = project
        at_first = ProcessSettings.now()
        self._module_sets = {name: ModuleSet(tree, at_first) for name, tree in trees.items()}
        self._finders = {name: BaseFinder(project, tree) for name, tree in trees.items() if tree is not None}
        self._shared: set[str] = set()
        self._shared_code = SharedCode()
        self.current = next(iter(trees))
        self._install(self.current)
        if trees[self.current] is not None:  # a plugin may have imported the project before, from the working tree
            self._hide({name: module for name, module in self._owned().items() if name.partition(".")[0] != _RUNNING})

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._module_sets)

    def switch(self, name: str) -> None:
        """Hide the current revision's modules and settings, and show those of another."""
        if name == self.current:
            return
        leaving, entering = self._module_sets[self.current], self._module_sets[name]
        leaving.modules = self._owned()
        self._hide(leaving.modules)
        leaving.settings = ProcessSettings.now()
        self._uninstall(self.current)
        self._show(entering.modules)
        self._install(name)
        entering.settings.restore()
        self.current = name

    def ask_first(self) -> None:
        """Put our finder first again: each pytest puts its own before it, which would find the working tree's files."""
        self._uninstall(self.current)
        self._install(self.current)

    def modules(self, name: str) -> Mapping[str, ModuleType]:
        """The project's modules that a revision has loaded."""
        return self._owned() if name == self.current else self._module_sets[name].modules

    def unused(self) -> tuple[str, ...]:
        """Base revisions that have loaded nothing from their worktree."""
        return tuple(name for name in self.names if not self._has_base(name))

    def _has_base(self, name: str) -> bool:
        tree = self._module_sets[name].tree
        files = (_file(module) for module in self.modules(name).values())
        return tree is None or any(file is not None and file.is_relative_to(tree) for file in files)

    def unsound(self) -> str:
        """Why the revisions must not share a process, if they must not: what one has changed reaches the other."""
        modules = [item for name in self.names for item in self.modules(name).items()]
        own = {*(name for name, _ in modules), *(name for name in sys.modules if name.startswith("_perfsuite_"))}
        if replaced := sorted({*self._shared_code.exchanged(), *project_code(own, self.holds)}):
            return f"the project replaces or registers {', '.join(replaced[:3])}, which both revisions would get"
        if registering := sorted(registers_once(modules)):
            return f"{registering[0]} registers operators with torch, which keeps one of a name for a process"
        if compiled := self.compiled():
            return f"{compiled[0]} is compiled and cannot be loaded twice in one process"
        return ""

    def compiled(self) -> tuple[str, ...]:
        """Extension modules of the project: they cannot be loaded twice in one process."""
        found = (item for name in self.names for item in self.modules(name).items())
        return tuple(name for name, module in found if str(_file(module) or "").endswith(_COMPILED))

    def holds(self, path: Path) -> bool:
        """Whether a file is the project's own, in the working tree or in a base's."""
        trees = (revision.tree for revision in self._module_sets.values() if revision.tree is not None)
        return self._project.owns(path) or any(path.is_relative_to(tree) for tree in trees)

    def _owned(self) -> dict[str, ModuleType]:
        """The project's modules that are loaded. What was found to be shared once is not looked at again."""
        files = {name: _file(sys.modules[name]) for name in sys.modules.keys() - self._shared}
        found = {name for name, file in files.items() if file is not None and self.holds(file)}
        # What a package makes at import, and puts into sys.modules without a file, is its own.
        found |= {name for name, file in files.items() if file is None and not found.isdisjoint(_packages(name))}
        self._shared |= files.keys() - found
        return {name: sys.modules[name] for name in found}

    def _hide(self, modules: Mapping[str, ModuleType]) -> None:
        for name in modules:
            del sys.modules[name]
            parent, _, child = name.rpartition(".")
            if parent in self._shared and parent in sys.modules:
                with suppress(AttributeError):
                    delattr(sys.modules[parent], child)

    def _show(self, modules: Mapping[str, ModuleType]) -> None:
        """A namespace package may be shared, and its modules are its attributes."""
        sys.modules.update(modules)
        for name, module in modules.items():
            parent, _, child = name.rpartition(".")
            if parent in self._shared and parent in sys.modules:
                setattr(sys.modules[parent], child, module)

    def _install(self, name: str) -> None:
        if name in self._finders:
            sys.meta_path.insert(0, self._finders[name])

    def _uninstall(self, name: str) -> None:
        if name in self._finders:
            sys.meta_path.remove(self._finders[name])


def _packages(name: str) -> list[str]:
    """The packages that a module is in, by name: "a.b.c" is in "a" and "a.b"."""
    return list(accumulate(name.split(".")[:-1], "{}.{}".format))


def _file(module: Any) -> Path | None:
    """Where a loaded module is from. Strange objects in sys.modules have no dictionary and no file."""
    values = getattr(module, "__dict__", {})
    place = values.get("__file__") or next(iter(values.get("__path__") or ()), None)
    return _resolved(place) if isinstance(place, str) else None


@cache
def _resolved(place: str) -> Path:
    return Path(place).resolve()
