"""Finds the project's modules in a base's worktree, whatever way they are found in the working tree."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

from perfsuite._compat.pytest import rewrites_asserts
from perfsuite.executors.in_process_ab.project import Project


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
        mine = [place for place in _places(here) if project.owns(place)]
        if here is not None and not mine:
            return None  # built in, or installed
        if mine and (project.is_test(mine[0]) or not project.comes_from_base(fullname)):
            return _rewritten(fullname, here) if path is not None and any(map(self._is_inside, path)) else None
        if not project.comes_from_base(fullname):
            return None
        there = self._same_file(fullname, here) or self._searched(fullname, path, is_here=here is not None)
        if there is None and here is not None:
            raise ModuleNotFoundError(f"the base revision has no module {fullname!r}", name=fullname)
        return _rewritten(fullname, there)

    def _same_file(self, name: str, here: ModuleSpec | None) -> ModuleSpec | None:
        """Where a finder of its own knows a package by another name than its folder's, only the file tells."""
        if here is None or not here.has_location:
            return None
        there = self._forward(_places(here)[0])
        folders = None if here.submodule_search_locations is None else [str(there.parent)]
        return spec_from_file_location(name, there, submodule_search_locations=folders) if there.is_file() else None

    def _searched(self, name: str, path: Sequence[str] | None, *, is_here: bool) -> ModuleSpec | None:
        """By name: a module that only the base has, or has elsewhere or in another shape."""
        roots = [self._in_base(entry) for entry in (sys.path if path is None else path)]
        if path is None and is_here:
            roots += [str(self._tree), str(self._tree / "src")]  # the layout has changed since
        found = PathFinder.find_spec(name, roots)
        inside = [place for place in _places(found) if place.is_relative_to(self._tree)]
        if found is None or not inside or self._project.is_test(Path(self._back(str(inside[0])))):
            return None
        if found.has_location:
            return found
        namespace = ModuleSpec(name, None, is_package=True)  # a plain list: the found one would search sys.path again
        namespace.submodule_search_locations = list(found.submodule_search_locations or ())
        return namespace

    def _in_base(self, entry: str) -> str:
        """An entry of a search path, in the base if it is the project's."""
        here = Path(entry or ".").resolve()
        return str(self._forward(here)) if self._project.owns(here) and not self._is_inside(entry) else entry

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
        if isinstance(finder, BaseFinder) or rewrites_asserts(finder):
            continue
        find_spec = getattr(finder, "find_spec", None)
        spec: ModuleSpec | None = find_spec(name, path) if find_spec else None
        if spec is not None:
            return spec
    return None


def _rewritten(name: str, spec: ModuleSpec | None) -> ModuleSpec | None:
    """As pytest's own finder would load that file: asserts that it rewrites take longer, in both revisions."""
    if spec is None or not spec.has_location or not spec.origin:
        return spec
    folder = Path(spec.origin).parent if spec.submodule_search_locations is None else Path(spec.origin).parents[1]
    for finder in filter(rewrites_asserts, sys.meta_path):
        found = finder.find_spec(name, [str(folder)])
        if found is not None and found.origin == spec.origin:
            return found
    return spec


def _places(spec: ModuleSpec | None) -> list[Path]:
    """The file of a module, or the folders of a namespace package; nothing for built-in ones."""
    if spec is None:
        return []
    if spec.has_location and spec.origin:
        return [Path(spec.origin).resolve()]
    return [Path(folder).resolve() for folder in spec.submodule_search_locations or ()]
