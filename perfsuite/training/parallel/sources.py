"""Which files another process imports: those that this one has, wherever they were found. Imports no torch."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType


@dataclass(frozen=True)
class Sources:
    """``files``: of each module that is loaded, with the folders of its submodules if it is a package.

    A model may come from a base revision's worktree, or from a test file that pytest has imported: a name alone would
    find another file, or none.
    """

    path: tuple[str, ...]
    files: Mapping[str, tuple[str, tuple[str, ...] | None]]

    @staticmethod
    def here() -> Sources:
        return Sources(tuple(sys.path), {name: found for name, found in map(_entry, [*sys.modules.items()]) if found})

    def use(self) -> None:
        """From now on, import those files in this process."""
        sys.path[:] = self.path
        sys.meta_path.insert(0, _Finder(self.files))


class _Finder(MetaPathFinder):
    def __init__(self, files: Mapping[str, tuple[str, tuple[str, ...] | None]]) -> None:
        self._files = files

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._files:
            return None
        file, folders = self._files[fullname]
        return spec_from_file_location(fullname, file, submodule_search_locations=list(folders) if folders else None)


def _entry(item: tuple[str, ModuleType]) -> tuple[str, tuple[str, tuple[str, ...] | None] | None]:
    """Nothing for what has no file of its own: built in, made at run time, or the script itself."""
    name, module = item
    file = getattr(module, "__file__", None)
    if name == "__main__" or not isinstance(file, str) or not Path(file).is_absolute() or module.__name__ != name:
        return name, None
    folders = getattr(module, "__path__", None)
    return name, (file, None if folders is None else tuple(folders))
