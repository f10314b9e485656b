"""Two revisions of a project's modules in one process, one visible at a time.

A *view* is what ``import`` gives: the working tree's modules, or a base revision's from its worktree.
Switching views exchanges the project's entries in ``sys.modules``; everything else (torch, pytest) is
shared. In a base view a finder stands first on ``sys.meta_path`` and answers for the project's files
with their counterparts in the worktree. Tests and conftest files always come from the working tree.
"""

from __future__ import annotations

import fnmatch
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from perfsuite.engine.settings import ProcessSettings

_NEVER = frozenset({"site-packages", "dist-packages", ".venv", "venv", ".tox", ".nox"})
_COMPILED = (".so", ".pyd", ".dylib")


@dataclass(frozen=True)
class Project:
    """Which files are the project's, and which of them are tests.

    ``top`` is the repository's top. ``test_folders`` are absolute; ``test_files`` are patterns of
    names. ``only``: modules (with all below them) that come from the base; empty: all but tests.
    """

    top: Path
    test_folders: tuple[Path, ...] = ()
    test_files: tuple[str, ...] = ("test_*.py", "*_test.py")
    only: tuple[str, ...] = ()

    def owns(self, path: Path) -> bool:
        """Whether a file of the working tree is the project's own, not an installed package's."""
        return path.is_relative_to(self.top) and _NEVER.isdisjoint(path.relative_to(self.top).parts)

    def is_test(self, path: Path) -> bool:
        """Tests and conftest files: by name, in a folder named tests or test, or in a folder of the ini file."""
        if path.name == "conftest.py" or any(fnmatch.fnmatch(path.name, pattern) for pattern in self.test_files):
            return True
        if {"tests", "test"} & set(path.relative_to(self.top).parts):
            return True
        return any(path.is_relative_to(folder) for folder in self.test_folders if folder != self.top)

    def comes_from_base(self, module: str) -> bool:
        return not self.only or any(module == name or module.startswith(f"{name}.") for name in self.only)


@dataclass
class View:
    """The modules that one revision sees while it is hidden. ``tree``: its worktree; None: the working tree."""

    tree: Path | None
    modules: dict[str, ModuleType] = field(default_factory=dict)
    settings: ProcessSettings | None = None


class Views:
    """Switches between views. The first one named is the current one."""

    def __init__(self, project: Project, trees: Mapping[str, Path | None]) -> None:
        self._project = project
        self._views = {name: View(tree) for name, tree in trees.items()}
        self._finders = {name: BaseFinder(project, tree) for name, tree in trees.items() if tree is not None}
        self._shared: set[str] = set()
        self.current = next(iter(trees))
        self._install(self.current)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._views)

    def switch(self, name: str) -> None:
        """Hide the current view's modules and settings, and show those of another."""
        if name == self.current:
            return
        leaving, entering = self._views[self.current], self._views[name]
        leaving.modules = self._owned()
        for module in leaving.modules:
            del sys.modules[module]
        leaving.settings = ProcessSettings.now()
        self._uninstall(self.current)
        sys.modules.update(entering.modules)
        self._install(name)
        if entering.settings is not None:
            entering.settings.restore()
        self.current = name

    def compiled(self) -> tuple[str, ...]:
        """Extension modules of the project in the current view: they cannot be loaded twice in one process."""
        owned = self._owned().items()
        return tuple(name for name, module in owned if str(_file(module) or "").endswith(_COMPILED))

    def _owned(self) -> dict[str, ModuleType]:
        """The project's modules that are loaded. What was found to be shared once is not looked at again."""
        found = {}
        for name in sys.modules.keys() - self._shared:
            if self._is_projects(sys.modules[name]):
                found[name] = sys.modules[name]
            else:
                self._shared.add(name)
        return found

    def _is_projects(self, module: Any) -> bool:
        path = _file(module)
        return path is not None and self.holds(path)

    def holds(self, path: Path) -> bool:
        """Whether a file is the project's own, in the working tree or in a base's."""
        trees = (view.tree for view in self._views.values() if view.tree is not None)
        return self._project.owns(path) or any(path.is_relative_to(tree) for tree in trees)

    def _install(self, name: str) -> None:
        if name in self._finders:
            sys.meta_path.insert(0, self._finders[name])

    def _uninstall(self, name: str) -> None:
        if name in self._finders:
            sys.meta_path.remove(self._finders[name])


class BaseFinder(MetaPathFinder):
    """Answers for the project's modules with their counterparts in a worktree."""

    def __init__(self, project: Project, tree: Path) -> None:
        self._project = project
        self._tree = tree

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """None leaves it to the other finders. Raises ModuleNotFoundError for what the base does not have."""
        project = self._project
        here = _find_elsewhere(fullname, None if path is None else [self._back(entry) for entry in path])
        place = _place(here)
        if here is None or place is None:
            return self._gone_since(fullname, path)
        if not project.owns(place):
            return None
        if project.is_test(place) or not project.comes_from_base(fullname):
            return here if path is not None and any(self._is_inside(entry) for entry in path) else None
        return self._counterpart(fullname, place, is_package=here.submodule_search_locations is not None)

    def _counterpart(self, name: str, place: Path, is_package: bool) -> ModuleSpec:
        there = self._forward(place)
        if place.is_dir() and there.is_dir():  # a namespace package
            spec = ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = [str(there)]
            return spec
        if not there.is_file():
            raise ModuleNotFoundError(f"the base revision has no module {name!r}", name=name)
        found = spec_from_file_location(
            name, there, submodule_search_locations=[str(there.parent)] if is_package else None
        )
        assert found is not None  # the working tree's file of the same name has a loader
        return found

    def _gone_since(self, name: str, path: Sequence[str] | None) -> ModuleSpec | None:
        """A module that only the base has."""
        if not self._project.comes_from_base(name):
            return None
        roots = [Path(entry or ".").resolve() for entry in (sys.path if path is None else path)]
        there = [str(self._forward(root)) if self._project.owns(root) else str(root) for root in roots]
        inside = [entry for entry in there if self._is_inside(entry)]
        found = PathFinder.find_spec(name, inside)
        place = _place(found)
        if found is None or place is None or self._project.is_test(Path(self._back(str(place)))):
            return None
        return self._counterpart(name, Path(self._back(str(place))), found.submodule_search_locations is not None)

    def _forward(self, path: Path) -> Path:
        return self._tree / path.relative_to(self._project.top)

    def _back(self, entry: str) -> str:
        if not self._is_inside(entry):
            return entry
        return str(self._project.top / Path(entry).resolve().relative_to(self._tree))

    def _is_inside(self, entry: str) -> bool:
        return Path(entry or ".").resolve().is_relative_to(self._tree)


def _find_elsewhere(name: str, path: Sequence[str] | None) -> ModuleSpec | None:
    """Where the other finders (paths, editable installs) find a module; pytest's own rewrites what they find."""
    for finder in sys.meta_path:
        if isinstance(finder, BaseFinder) or type(finder).__module__.startswith("_pytest"):
            continue
        find_spec = getattr(finder, "find_spec", None)
        spec: ModuleSpec | None = find_spec(name, path) if find_spec else None
        if spec is not None:
            return spec
    return None


def _place(spec: ModuleSpec | None) -> Path | None:
    """The file of a module, or the folder of a namespace package; None for built-in ones."""
    if spec is None:
        return None
    if spec.has_location and spec.origin:
        return Path(spec.origin).resolve()
    folders = list(spec.submodule_search_locations or ())
    return Path(folders[0]).resolve() if folders else None


def _file(module: Any) -> Path | None:
    """Where a loaded module is from. Strange objects in sys.modules have no dictionary and no file."""
    values = getattr(module, "__dict__", {})
    place = values.get("__file__") or next(iter(values.get("__path__", ())), None)
    return Path(place).resolve() if isinstance(place, str) else None
