"""What is known of a change before anything runs: which files, functions and names differ, and who is watched."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

import msgspec

from perfsuite.proof.mentions import Module, Reach, Tripwire, called_on, reach_of, tripwires_of
from perfsuite.proof.scopes import Files, Scope, forms_of, handed_on, plain, stem_of
from perfsuite.proof.sources import Changed, Difference, compare
from perfsuite.proof.vocabulary import IMPORTS, LOOKS_AROUND, WORDS_TO_CALL_BY_NAME, WORDS_TO_LOOK_AROUND

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
_IMPORTS_LATER = re.compile(rb"^[ \t]+(from|import)\b|import_module|__import__", re.MULTILINE)
_CALLS_BY_NAME = re.compile(
    rb"""(?<![\w.])(eval|exec|globals)\(|methodcaller|getattr\((?![^,()]*,\s*("[^"]*"|'[^']*')\s*[,)])"""
)
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
    origins: dict[str, frozenset[str]] = {}
    opaque: frozenset[str] = frozenset()  # modules that may have what nobody sees them bind (perfsuite.proof.scopes)
    at_import: dict[str, frozenset[str]] = {}  # by file: what differs, and is given to calls when it is imported
    tripwires: dict[str, tuple[Tripwire, ...]] = {}
    differing: int = 0  # files, tests left out

    @property
    def names(self) -> frozenset[str]:
        """What is bound differently, in any file."""
        return frozenset(name for found in self.python.values() for name in found.names)

    @property
    def reach(self) -> Reach:
        return Reach(self.origins)

    def changed(self) -> list[tuple[str, Changed]]:
        return [(path, one) for path, found in self.python.items() for one in found.functions]

    def absolute(self, path: str) -> str:
        return str(Path(self.top) / path)


Grep = Callable[[Iterable[str]], Iterable[str]]
"""Finds the Python files, but no tests, in which one of some words stands."""


def plan(top: Path, base: str, files: Iterable[File], grep: Grep, paths: Collection[str]) -> Plan:
    """``files`` differ, and are no tests; ``paths`` are all of the project."""
    files = list(files)
    bare = Plan(str(top), base, differing=len(files))
    if why := _why_everything(files):
        return msgspec.structs.replace(bare, everything=why)
    python = {one.path: compare(one.before, one.after) for one in files if one.path.endswith(".py")}
    python = {path: found for path, found in python.items() if not found.is_quiet}
    if any(found.described for found in python.values()) and list(grep(_READERS)):
        python = {path: msgspec.structs.replace(one, names=one.names | one.described) for path, one in python.items()}
    found = msgspec.structs.replace(
        bare, python=python,
        data=frozenset(one.path for one in files if not one.path.endswith(".py")),
        appeared=frozenset(one.path for one in files if not one.is_both),
    )  # fmt: skip
    return _watched(found, top, grep, paths)


def _watched(found: Plan, top: Path, grep: Grep, paths: Collection[str]) -> Plan:
    """The plan with its tripwires."""
    words = _words_of(found)
    if not words:
        return found
    if compilers := list(grep(_COMPILES_FUNCTIONS)):
        return msgspec.structs.replace(found, everything=f"{compilers[0]} names a compiler of Python functions")
    modules = Modules(top, grep, _files(top, grep, paths))
    reach = reach_of(words, modules.that_name)
    reach = reach if reach.too_far else called_on(reach, modules.that_name)
    if reach.too_far:
        return msgspec.structs.replace(found, everything="names of what differs are handed on too often to follow")
    changed = {path: difference.functions for path, difference in found.python.items()}
    watched = modules.that_name(frozenset(reach.origins)) | modules.read(changed)
    tripwires = {path: tripwires_of(module, changed.get(path, ()), reach) for path, module in watched.items()}
    return msgspec.structs.replace(
        found, origins=dict(reach.origins), at_import=dict(reach.at_import), opaque=modules.files.opaque,
        tripwires={path: wires for path, wires in tripwires.items() if wires},
    )  # fmt: skip


def _files(top: Path, grep: Grep, paths: Collection[str]) -> Files:
    """Modules whose name a package has for something else are opaque, too."""
    packages = [tree for path in paths if path.endswith("__init__.py") and (tree := _parsed(top / path))]
    handed = {name for tree in packages for name in handed_on(tree)}
    return Files.of(paths, [*grep(("import *", "__getattr__")), *(f"{name}.py" for name in handed)])


def _read_if_there(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _parsed(path: Path) -> ast.Module | None:
    """Nothing where it is not here, or cannot be imported."""
    try:
        return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None


def _words_of(found: Plan) -> dict[str, frozenset[str]]:
    """The words that may mean what differs, and the name of that."""
    origins: dict[str, set[str]] = {}
    for path, difference in found.python.items():
        named = [(name, name) for name in difference.names]
        called = [(one.name, one.own) for one in difference.functions]
        owners = [(one.owner, one.owner) for one in difference.functions if one.owner]
        inheriting = {one.name for one in difference.functions if one.inherits}
        for name, origin in (*named, *called, *owners):
            for word in forms_of(path, name, inherits=name in inheriting):
                origins.setdefault(word, set()).add(origin)
        origins.setdefault(f"{IMPORTS}{stem_of(path)}", set()).add(path)
    if found.names:
        origins[LOOKS_AROUND] = {LOOKS_AROUND}
    return {word: frozenset(names) for word, names in origins.items()}


class Modules:
    """Parsed files of the project."""

    def __init__(self, top: Path, grep: Grep, files: Files) -> None:
        self.files = files
        self._top = top
        self._grep = grep
        self._parsed: dict[str, Module] = {}
        self._having = cache(self._files_having)  # asked in each round, for the same

    def that_name(self, words: frozenset[str]) -> dict[str, Module]:
        """The files in which what a word is about stands in any form."""
        around = WORDS_TO_LOOK_AROUND if LOOKS_AROUND in words else frozenset[str]()
        stems = {word.removeprefix(IMPORTS) for word in words if word.startswith(IMPORTS)}
        names = {plain(word) for word in words - {LOOKS_AROUND} if not word.startswith(IMPORTS)}
        calling = self._having(_CALLS_BY_NAME, WORDS_TO_CALL_BY_NAME)
        importing = self._having(_IMPORTS_LATER, frozenset(stems)) if stems else frozenset[str]()
        return self.read({*self._grep({*names, *around}), *calling, *importing})

    def _files_having(self, pattern: re.Pattern[bytes], words: frozenset[str]) -> frozenset[str]:
        """Those with one of the words in which it is found: to look is a hundred times faster than to parse."""
        return frozenset(path for path in self._grep(words) if pattern.search(_read_if_there(self._top / path)))

    def read(self, paths: Iterable[str]) -> dict[str, Module]:
        found = {}
        for path in paths:
            if path not in self._parsed and (tree := _parsed(self._top / path)):
                self._parsed[path] = Module(tree, Scope.of(path, tree, self.files))
            if path in self._parsed:
                found[path] = self._parsed[path]
        return found


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
