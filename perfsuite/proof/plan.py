"""What is known of a change before anything runs: which files, functions and names differ, and who is watched."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import msgspec

from perfsuite.proof.mentions import LOOKS_AROUND, Reach, Tripwire, reach_of, tripwires_of
from perfsuite.proof.sources import Changed, Difference, compare

_BUILDS = re.compile(
    r"(^|/)(setup\.(py|cfg)|requirements([^/]*|/[^/]*)\.(txt|in)|constraints[^/]*\.txt|Pipfile|environment[^/]*\.ya?ml|"
    r"CMakeLists\.txt|meson\.build|Makefile|MANIFEST\.in|build\.rs|Cargo\.toml|\.python-version|[^/]*\.lock|"
    r"pylock[^/]*\.toml)$"
)
_COMPILED_FROM = frozenset({
    ".c", ".cc", ".cmake", ".cpp", ".cu", ".cuh", ".cxx", ".f", ".f90", ".h", ".hpp", ".pxd", ".pyx", ".rs", ".pyi.in",
})  # fmt: skip
_ABOUT_CODE = frozenset({
    "basedpyright", "bandit", "black", "codespell", "coverage", "deptry", "importlinter", "interrogate", "isort",
    "mypy",
    "perfsuite", "pydocstyle", "pylint", "pyright", "pytest", "ruff", "tox", "ty", "vulture",
})  # fmt: skip
_MOST_FILES = 2_000
_READERS = ("__annotations__", "__doc__", "get_annotations", "get_type_hints", "getdoc", "getfullargspec", "signature")
_COMPILES_FUNCTIONS = ("numba", "triton", "numexpr", "jax", "taichi", "pyximport")


@dataclass(frozen=True)
class File:
    """A file that differs, and what it says on either side; None where it is not, or where it is no text."""

    path: str
    before: str | None
    after: str | None
    is_both: bool = True
    is_plain: bool = True


class Plan(msgspec.Struct, frozen=True):
    """By file, from the top. ``everything``: why no case can be proven at all."""

    top: str
    base: str  # such as "main (abc123def456)"
    everything: str = ""
    python: dict[str, Difference] = {}  # without those that differ in comments and formatting alone
    data: frozenset[str] = frozenset()
    appeared: frozenset[str] = frozenset()  # files that only one side has
    names: frozenset[str] = frozenset()
    origins: dict[str, frozenset[str]] = {}
    at_import: dict[str, frozenset[str]] = {}  # by file: what differs, and is given to calls when it is imported
    tripwires: dict[str, tuple[Tripwire, ...]] = {}
    differing: int = 0  # files, tests left out

    @property
    def reach(self) -> Reach:
        return Reach(self.origins)

    def changed(self) -> list[tuple[str, Changed]]:
        return [(path, one) for path, found in self.python.items() for one in found.functions]

    def absolute(self, path: str) -> str:
        return str(Path(self.top) / path)


def plan(top: Path, base: str, files: Iterable[File], name: Callable[[Iterable[str]], Iterable[str]]) -> Plan:
    """``files`` differ, and are no tests; ``name`` finds the Python files in which one of some words stands."""
    files = list(files)
    bare = Plan(str(top), base, differing=len(files))
    if why := _why_everything(files):
        return msgspec.structs.replace(bare, everything=why)
    python = {one.path: compare(one.before, one.after) for one in files if one.path.endswith(".py")}
    python = {path: found for path, found in python.items() if not found.is_quiet}
    described = {word for found in python.values() for word in found.described}
    names = {word for found in python.values() for word in found.names}
    if described and list(name(_READERS)):
        names |= described
    found = msgspec.structs.replace(
        bare, python=python, names=frozenset(names),
        data=frozenset(one.path for one in files if not one.path.endswith(".py")),
        appeared=frozenset(one.path for one in files if not one.is_both),
    )  # fmt: skip
    return _watched(found, top, name)


def _watched(found: Plan, top: Path, name: Callable[[Iterable[str]], Iterable[str]]) -> Plan:
    """The plan with its tripwires."""
    words = _words_of(found)
    if not words:
        return found
    if compilers := list(name(_COMPILES_FUNCTIONS)):
        return msgspec.structs.replace(found, everything=f"{compilers[0]} names a compiler of Python functions")
    modules = _Modules(top, name)
    reach = reach_of(words, modules.that_name)
    if reach.too_far:
        return msgspec.structs.replace(found, everything="names of what differs are handed on too often to follow")
    changed = {path: difference.functions for path, difference in found.python.items()}
    watched = modules.that_name(frozenset(reach.origins)) | modules.read(changed)
    tripwires = {path: tripwires_of(module, changed.get(path, ()), reach) for path, module in watched.items()}
    return msgspec.structs.replace(
        found, origins=dict(reach.origins), at_import=dict(reach.at_import),
        tripwires={path: wires for path, wires in tripwires.items() if wires},
    )  # fmt: skip


def _words_of(found: Plan) -> set[str]:
    words = set(found.names)
    for _, one in found.changed():
        words |= {one.own, one.owner} - {""}
    return words | {LOOKS_AROUND} if found.names else words


class _Modules:
    """Parsed files of the project."""

    def __init__(self, top: Path, name: Callable[[Iterable[str]], Iterable[str]]) -> None:
        self._top = top
        self._name = name
        self._parsed: dict[str, ast.Module] = {}

    def that_name(self, words: frozenset[str]) -> dict[str, ast.Module]:
        return self.read(self._name(words - {LOOKS_AROUND} | (_AROUND if LOOKS_AROUND in words else frozenset())))

    def read(self, paths: Iterable[str]) -> dict[str, ast.Module]:
        found = {}
        for path in paths:
            if path not in self._parsed:
                try:
                    self._parsed[path] = ast.parse((self._top / path).read_bytes())
                except (OSError, SyntaxError, ValueError, RecursionError):
                    continue  # it is not here, or cannot be imported
            found[path] = self._parsed[path]
        return found


_AROUND = frozenset({"__dict__", "__subclasses__", "dir", "getattr", "getmembers", "globals", "import_module", "vars"})


def _why_everything(files: list[File]) -> str:
    if len(files) > _MOST_FILES:
        return f"{len(files):,} files differ"
    for one in files:
        if not one.is_plain:
            return f"{one.path} is a link, a submodule, or hidden from git"
        if _BUILDS.search(one.path):
            return f"{one.path} differs, by which packages are chosen or built"
        if PurePosixPath(one.path).name == "pyproject.toml" and not _is_same_project(one):
            return f"{one.path} differs in more than settings of tools"
        if PurePosixPath(one.path).suffix in _COMPILED_FROM:
            return f"{one.path} differs, which something may be compiled from"
    return ""


def _is_same_project(file: File) -> bool:
    try:
        sides: list[Mapping[str, object]] = [tomllib.loads(text or "") for text in (file.before, file.after)]
    except tomllib.TOMLDecodeError:
        return False
    return _project(sides[0]) == _project(sides[1])


def _project(settings: Mapping[str, object]) -> dict[str, object]:
    """Without what says how code is looked at, and how tests are run, which is the working tree's on both sides."""
    tools = settings.get("tool")
    kept = {name: value for name, value in tools.items() if name not in _ABOUT_CODE} if isinstance(tools, dict) else {}
    return {**settings, "tool": kept}
