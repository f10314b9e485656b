"""Which files are the code under test: a base revision's counterparts stand for them, and for nothing else."""

from __future__ import annotations

import fnmatch
import sysconfig
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

_NEVER = frozenset({"site-packages", "dist-packages", ".venv", "venv", ".tox", ".nox"})
_NAMES = ("test_*.py", "*_test.py")
_TESTS = frozenset({"tests", "test"})
_LIBRARIES = ("stdlib", "platstdlib", "purelib", "platlib")


@dataclass(frozen=True)
class Project:
    """Which files are the project's, and which of them are tests.

    ``top`` is the repository's top. ``test_folders`` are absolute; ``test_files`` are patterns of
    names, pytest's own if there are none. ``only``: modules (with all below them) that come from the
    base; empty: all but tests.
    """

    top: Path
    test_folders: tuple[Path, ...] = ()
    test_files: tuple[str, ...] = ()
    only: tuple[str, ...] = ()

    def owns(self, path: Path) -> bool:
        """Whether a file of the working tree is the project's own, not an installed package's."""
        if not path.is_relative_to(self.top) or not _NEVER.isdisjoint(path.relative_to(self.top).parts):
            return False
        return not any(path.is_relative_to(library) for library in self._libraries)

    def is_test(self, path: Path) -> bool:
        """Tests and conftest files: by name, in a folder named tests or test, or in a folder of the ini file."""
        if path.name == "conftest.py" or any(fnmatch.fnmatch(path.name, pattern) for pattern in self._patterns):
            return True
        return bool(_TESTS & set(path.relative_to(self.top).parts)) or any(
            path.is_relative_to(folder) for folder in self._folders
        )

    def comes_from_base(self, module: str) -> bool:
        return not self.only or any(module == name or module.startswith(f"{name}.") for name in self.only)

    @cached_property
    def _libraries(self) -> tuple[Path, ...]:
        """Of a whole Python that is installed inside of the repository, as conda and pixi do."""
        return tuple({Path(path).resolve() for name, path in sysconfig.get_paths().items() if name in _LIBRARIES})

    @cached_property
    def _patterns(self) -> tuple[str, ...]:
        """Without those that any module matches, such as ``*.py``: they tell no test."""
        return tuple(one for one in self.test_files if not fnmatch.fnmatch("__init__.py", one)) or _NAMES

    @cached_property
    def _folders(self) -> tuple[Path, ...]:
        """Without those that hold the code under test, such as ``testpaths = src``: beside itself it would pass."""
        return tuple(folder.resolve() for folder in self.test_folders if not _holds_packages(folder))


def _holds_packages(folder: Path) -> bool:
    """Whether a folder is a package, or has packages in it, beside those of tests."""
    depths = ("__init__.py", "*/__init__.py", "*/*/__init__.py")
    found = (file.relative_to(folder) for depth in depths for file in folder.glob(depth))
    return folder.name not in _TESTS and any(_TESTS.isdisjoint(file.parts) for file in found)
