"""Whether a case is proven to be the same on both sides, told from what differs and what was seen. Pure."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePath

import msgspec

from perfsuite.patterns import counted
from perfsuite.proof.mentions import Tripwire
from perfsuite.proof.plan import Plan
from perfsuite.proof.scopes import stem_of
from perfsuite.proof.sources import Changed
from perfsuite.proof.vocabulary import CALLED_BY_TORCH, LOOKS_AROUND
from perfsuite.proof.watching import Seen


class Proof(msgspec.Struct, frozen=True, tag=True):
    """``differing`` files of the project are not what the base has; of those, none mattered.

    ``same_files``: nothing that was loaded or read differs, but for comments; else what ran is the same program.
    """

    base: str
    same_files: bool
    differing: int = 0
    functions: int = 0
    operators: int = 0

    @property
    def sentence(self) -> str:
        if self.same_files:
            what = f"{counted(self.differing, 'file')} of the project differ" if self.differing else "nothing differs"
            return f"the same files ran: {what} from {self.base}, and none that matters was loaded or read"
        parts = [(self.functions, "function"), (self.operators, "operator")]
        ran = " and ".join(counted(number, what) for number, what in parts if number) or "no function of the project"
        return f"the same program ran: {ran}, none differs from {self.base}"


class NotProven(msgspec.Struct, frozen=True, tag=True):
    """Why not. ``only_here``: what stands against it is what earlier tests may have left in this process."""

    why: str
    only_here: bool = False


@dataclass(frozen=True)
class Ran:
    """Tripwires, by when they were met: in this test or at import, and in earlier tests of the process alone."""

    now: Collection[tuple[str, Tripwire]] = ()
    earlier: Collection[tuple[str, Tripwire]] = ()


@dataclass(frozen=True)
class Loaded:
    """Files of modules in ``sys.modules`` that are the project's, and no tests; absolute, as all paths here.

    ``instrumented``: those with their tripwires. ``unknown``: of these files, what git ignores.
    ``has_method`` tells whether a class, by its file and name, has an attribute.
    """

    files: Collection[str]
    instrumented: Collection[str] = ()
    unknown: Collection[str] = ()
    has_method: Callable[[str, str], bool] = field(default=lambda file, name: True)


def why_files_matter(plan: Plan, seen: Seen, loaded: Loaded) -> str:
    """Why the files that were loaded and read make another program, or may; empty if they do not."""
    if plan.everything:
        return plan.everything
    if not loaded.files:
        return "no module of the project was loaded"
    if seen.lost:
        return f"what is read could not be followed ({seen.lost})"
    if loaded.unknown:
        return f"{_short(plan, next(iter(loaded.unknown)))} is loaded, which git ignores"
    return _why_modules_matter(plan, seen, loaded) or _why_data_matters(plan, seen) or _why_places_matter(plan, seen)


def _why_modules_matter(plan: Plan, seen: Seen, loaded: Loaded) -> str:
    for path, difference in plan.python.items():
        file = plan.absolute(path)
        if difference.whole and (file in loaded.files or file in seen.imported or file in seen.opened):
            return f"{path} differs: {difference.whole}"
        if file in seen.opened:
            return f"{path} differs, and is read as a file"
    return ""


def _why_data_matters(plan: Plan, seen: Seen) -> str:
    for path in sorted(plan.data):
        file = plan.absolute(path)
        if file in seen.opened or file in seen.imported:
            return f"{path} differs, and is read"
        if not seen.sees_native_reads and PurePath(path).suffix not in _READ_BY_PEOPLE:
            return f"{path} differs, and here nobody tells whether native code reads it"
    return ""


_READ_BY_PEOPLE = frozenset({".adoc", ".md", ".rst"})


def _why_places_matter(plan: Plan, seen: Seen) -> str:
    """What was looked for, and may be found on one side alone; and what cannot be seen from here."""
    for path in plan.appeared:
        parent = os.path.dirname(plan.absolute(path))  # noqa: PTH120  # paths are texts here
        if parent in seen.listed:
            return f"the folder of {path} is listed, which only one side has"
        if path.endswith(".py") and stem_of(path) in seen.asked_for and plan.absolute(path) not in seen.imported:
            return f"{path} is asked for, which only one side has"
    if seen.child and (plan.python or plan.data):
        return f"{seen.child} starts a process, in which more may run"
    return ""


def loads_what_differs(plan: Plan, loaded: Loaded) -> bool:
    """Whether any module is loaded that differs in more than comments."""
    return any(plan.absolute(path) in loaded.files for path in plan.python)


def why_imports_matter(plan: Plan, loaded: Loaded, ran: Ran) -> str:
    """Which function that ran may import a module that differs the next time; empty if none does."""
    for path in plan.python:
        if plan.absolute(path) not in loaded.files:
            for where, wire in ran.now:
                if path in wire.words:
                    return f"{_in(where)}{wire.name} may import {path}, which differs"
    return ""


def why_functions_matter(plan: Plan, loaded: Loaded, ran: Ran, test_words: Iterable[str]) -> str:
    """Why the functions of the modules that are loaded make another program, or may; empty if they do not."""
    for path in plan.tripwires:
        if plan.absolute(path) in loaded.files and plan.absolute(path) not in loaded.instrumented:
            return f"{path} was loaded before it could be watched"
    for path, words in plan.at_import.items():
        if plan.absolute(path) in loaded.files and (named := sorted(plan.names & words)):
            return f"{path} uses {named[0]}, which differs, when it is imported"
    for file, name in _removed(plan, loaded):
        if loaded.has_method(file, name):
            return f"{name} is gone, and inherited now"
    return _why_runs_matter(plan, ran, test_words)


def _why_runs_matter(plan: Plan, ran: Ran, test_words: Iterable[str]) -> str:
    for path, wire in ran.now:
        if wire.differs:
            return f"{_in(path)}{wire.name} runs, and differs"
    reached = [(f"{_in(path)}{wire.name}", wire.words) for path, wire in ran.now]
    for who, words in (*reached, ("the test", plan.reach.of(test_words))):
        if what := _reached(plan, words):
            return f"{who} names {what}, which differs"
    return ""


def matters_later(plan: Plan, ran: Ran) -> bool:
    """Whether an earlier test has run what differs, or what names it: it may be remembered, in a cache or a global."""
    return any(wire.differs or _reached(plan, wire.words) for _, wire in ran.earlier)


def _removed(plan: Plan, loaded: Loaded) -> Iterator[tuple[str, str]]:
    for path, difference in plan.python.items():
        if plan.absolute(path) in loaded.files:
            yield from ((plan.absolute(path), name) for name in difference.removed)


def _reached(plan: Plan, words: Collection[str]) -> str:
    """What differs among what is named: a name that is bound differently, or a function that can be called."""
    if named := sorted(plan.names & set(words)):
        return named[0]
    if plan.names and LOOKS_AROUND in words:
        return f"names that are made up when it runs, which may be {min(plan.names)}"
    for _, one in plan.changed():
        if _can_be_called(one, words):
            return one.name
    return ""


def _can_be_called(one: Changed, words: Collection[str]) -> bool:
    """A method that Python or a library may call is reached by whoever names its class, too."""
    by_others = one.owner and (one.inherits or one.own in CALLED_BY_TORCH or one.own.startswith("__"))
    if by_others and one.owner in words:
        return True
    return one.own in words and one.own not in CALLED_BY_TORCH and not one.own.startswith("__")


def _short(plan: Plan, file: str) -> str:
    return file.removeprefix(f"{plan.top}{os.sep}")


def _in(path: str) -> str:
    return f"{path}: "
