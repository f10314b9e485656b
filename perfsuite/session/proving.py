"""Proof instead of time, for the cases of one session: what it watches from its start, and what it finds of a case."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

from perfsuite.case import EAGER
from perfsuite.errors import EngineError, PerfsuiteError
from perfsuite.measure.subject import Subject
from perfsuite.patterns import counted, first_of
from perfsuite.proof import scopes
from perfsuite.proof.mentions import Module, Tripwire, test_words
from perfsuite.proof.plan import File, Plan, plan
from perfsuite.proof.scopes import Scope
from perfsuite.proof.tripwires import Tripwires
from perfsuite.proof.verdicts import (
    Loaded,
    NotProven,
    Proof,
    Ran,
    loads_what_differs,
    matters_later,
    why_files_matter,
    why_functions_matter,
    why_imports_matter,
)
from perfsuite.proof.watching import Watch
from perfsuite.revisions.commits import BaseCommit
from perfsuite.revisions.differences import differences, files_that_name, known_files, texts_of

_COMPILED = (".so", ".pyd", ".dylib")
_CACHES = frozenset({
    ".benchmarks", ".git", ".hypothesis", ".mypy_cache", ".pytest_cache", ".ruff_cache", "__pycache__",
})  # fmt: skip


@dataclass(frozen=True)
class Files:
    """Which files are whose. ``owns``: the project's; ``is_test``: those that the working tree has for both sides;
    ``is_ours``: baselines and histories, which perfsuite itself reads.
    """

    top: Path
    owns: Callable[[Path], bool]
    is_test: Callable[[Path], bool]
    is_ours: Callable[[Path], bool] = lambda path: False
    base_is_built: bool = False

    def is_code(self, path: Path) -> bool:
        """Whether it is under test."""
        return self.owns(path) and not self.is_test(path)


@dataclass
class Prover:
    """Watches one process from its start. ``ran`` tripwires were met at import or in the test that runs now."""

    files: Files
    plan: Plan
    tripwires: Tripwires
    watch: Watch
    proves: bool = True
    _at_import: set[int] | None = None
    _earlier: set[int] = field(default_factory=set)
    _own: dict[str, str] = field(default_factory=dict)  # by the file that a module names: the project's, or empty
    _unknown: dict[str, bool] = field(default_factory=dict)
    reached: set[int] = field(default_factory=set)  # tripwires that performance tests have met

    @staticmethod
    def start(files: Files, base: BaseCommit, *, proves: bool = True) -> Prover:
        """Before anything of the project is imported. Where git fails, nothing will be proven.

        Without ``proves`` it only tells what no test measures.
        """
        try:
            found = plan_of(files, base)
        except EngineError as error:  # then all is timed, and why is said
            found = Plan(str(files.top), base.asked, everything=error.what)
        return Prover.of(files, found, proves=proves)

    @staticmethod
    def of(files: Files, found: Plan, *, proves: bool = True) -> Prover:
        """With a plan that another process has made."""
        data = [files.top / path for path in found.data]
        wires = {str((files.top / path).resolve()): wires for path, wires in found.tripwires.items()}
        prover = Prover(files, found, Tripwires(wires), Watch(files.top, files.owns, data), proves)
        prover.tripwires.install()
        prover.watch.start()
        return prover

    def close(self) -> None:
        self.watch.stop()
        self.tripwires.uninstall()

    def begin(self) -> None:
        """A performance test begins."""
        ran = self.tripwires.ran
        if self._at_import is None:
            self._at_import = set(ran)
        self._earlier |= ran
        ran.clear()

    def end(self) -> None:
        """It has ended: what it ran is measured by something."""
        self.reached |= self.tripwires.ran

    def prove(self, subject: Subject, test: tuple[Path, str]) -> Proof | NotProven:
        """The proof, or why there is none. ``test``: its file, and the name of its function.

        What is measured is called a few times: what it imports, reads and runs then counts, too.
        """
        if why := self._why_files():
            self._call_once(subject)
            return NotProven(why)
        try:
            subject.ready()
            why, loaded = self._why_files(), self._loaded()
            if why := why or why_imports_matter(self.plan, loaded, self._ran()):
                return NotProven(why)
            if not loads_what_differs(self.plan, loaded):
                return Proof(self.plan.base, True, self.plan.differing)
            functions, operators, why = _called(subject)
        except PerfsuiteError as error:
            return NotProven(error.what)
        if why := why or self._why_files() or _why_hidden(subject) or self._why_functions(test):
            return NotProven(why)
        if matters_later(self.plan, self._ran()):
            return NotProven("what differs has run, or was used, in an earlier test of its process", only_here=True)
        return Proof(self.plan.base, False, self.plan.differing, functions, operators)

    def _call_once(self, subject: Subject) -> None:
        """It is timed elsewhere; a call here tells which of the changed functions it measures."""
        if self.plan.tripwires:
            with suppress(PerfsuiteError):
                subject.ready()

    def uncovered(self) -> list[str]:
        """Changed functions that no performance test has run, by name; and files that differ as a whole, not loaded."""
        ran = {(path, wire.name) for number, (path, wire) in enumerate(self._all()) if number in self.reached}
        loaded = self._loaded().files
        wholes = [path for path, found in self.plan.python.items() if found.whole and (self.files.top / path).is_file()]
        return [
            *(f"{path}: {one.name}" for path, one in self.plan.changed() if one.line and (path, one.name) not in ran),
            *(path for path in wholes if self.plan.absolute(path) not in loaded),
        ]

    def _why_files(self) -> str:
        if not self.proves:
            return "all cases are timed (--perf-time=all)"
        return why_files_matter(self.plan, self.watch.now(), self._loaded())

    def _why_functions(self, test: tuple[Path, str]) -> str:
        return why_functions_matter(self.plan, self._loaded(), self._ran(), self._words_of(test))

    def _all(self) -> list[tuple[str, Tripwire]]:
        top = f"{self.files.top}/"
        return [(file.removeprefix(top), wire) for file, wire in self.tripwires.all]

    def _ran(self) -> Ran:
        wires, now = self._all(), self.tripwires.ran | (self._at_import or set())
        return Ran([wires[one] for one in now], [wires[one] for one in self._earlier - now])

    def _loaded(self) -> Loaded:
        files = {*self._project_files(), *filter(self._is_code, self.watch.seen.imported)}
        used = {*files, *self.watch.seen.opened, *self.watch.seen.imported}
        return Loaded(files, self.tripwires.loaded, [one for one in used if self._is_unknown(one)], _has_method)

    def _project_files(self) -> Iterator[str]:
        for module in list(sys.modules.values()):
            place = getattr(module, "__dict__", {}).get("__file__")
            if isinstance(place, str):
                if place not in self._own:
                    path = Path(place).resolve()
                    self._own[place] = str(path) if self.files.is_code(path) else ""
                if self._own[place]:
                    yield self._own[place]

    @cached_property
    def _is_code(self) -> Callable[[str], bool]:
        """Whether a file is the project's and no test, also one whose module is not in ``sys.modules`` any more."""
        return cache(lambda file: self.files.is_code(Path(file)))

    def _is_unknown(self, file: str) -> bool:
        """Whether the base may have another file there of which git knows nothing, or none."""
        if file not in self._unknown:
            self._unknown[file] = self._look_at(Path(file))
        return self._unknown[file]

    def _look_at(self, path: Path) -> bool:
        below = path.relative_to(self.files.top)
        if str(below) in self._known or not self.files.owns(path) or _CACHES & set(below.parts):
            return False
        if below.name.startswith(".coverage"):
            return False
        return path.is_file() and (self.files.base_is_built or path.suffix in _COMPILED or _is_hidden(below))

    @cached_property
    def _known(self) -> frozenset[str]:
        return known_files(self.files.top)

    def _words_of(self, test: tuple[Path, str]) -> set[str]:
        file, function = test
        try:
            tree = ast.parse(file.read_bytes())
        except (OSError, SyntaxError, ValueError):
            return set()
        scope = Scope.of(str(file.relative_to(self.files.top)), tree, self._scoped)
        return test_words(Module(tree, scope), function)

    @cached_property
    def _scoped(self) -> scopes.Files:
        found = scopes.Files.of(self._known, ())
        return scopes.Files(found.modules, found.opaque | self.plan.opaque)


def plan_of(files: Files, base: BaseCommit) -> Plan:
    """What differs between the commit and the working tree, tests and what is ours left out."""
    top = files.top
    found = [one for one in differences(top, base.sha) if not _is_left_out(files, one.path)]
    texts = texts_of(top, (one.blob for one in found if _is_read(one.path)))
    sides = [
        File(one.path, texts.get(one.blob), _text(top / one.path), one.is_both, one.is_plain) for one in found
    ]  # fmt: skip

    def grep(words: Iterable[str]) -> Iterable[str]:
        return [path for path in files_that_name(top, words) if not files.is_test(top / path)]

    return plan(top, f"{base.asked} ({base.sha[:12]})", sides, grep, known_files(top))


def uncovered_notes(prover: Prover) -> Iterator[str]:
    """A sentence that names the changed functions which no performance test runs, if there are any."""
    if found := prover.uncovered():
        what = f"{counted(len(found), 'changed function')} {'is' if len(found) == 1 else 'are'} measured by nothing"
        yield f"{what}: {first_of(found, _SHOWN)}"


def why_not_covered(prover: Prover) -> str:
    """Why not every change is known to be measured by a test; empty if it is."""
    if prover.plan.everything:
        return f"which changed functions are measured cannot be told: {prover.plan.everything}"
    return next(uncovered_notes(prover), "")


_SHOWN = 5


def _is_left_out(files: Files, path: str) -> bool:
    place = files.top / path
    return files.is_ours(place) or (path.endswith(".py") and files.is_test(place))


def _is_read(path: str) -> bool:
    return path.endswith((".py", "pyproject.toml"))


def _text(path: Path) -> str | None:
    if not _is_read(str(path)):
        return None
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return None


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _called(subject: Subject) -> tuple[int, int, str]:
    """How many functions of the project run in a call, how many operators are dispatched, and in what two calls differ,
    if they do.
    """
    if why := subject.why_python_varies:
        return 0, 0, f"it is not deterministic: {why}"
    functions = len(subject.python_calls)
    if "torch" not in sys.modules:
        return functions, 0, ""
    from perfsuite.measure.trace import operators_of

    one, other = operators_of(subject.call), operators_of(subject.call)
    why = "" if one == other else "it is not deterministic: two calls dispatch other operators"
    return functions, sum(one.values()), why


def _why_hidden(subject: Subject) -> str:
    """Why functions may run that nobody sees run; empty if they do not."""
    if subject.runtime != EAGER:
        return f"the runtime {subject.runtime} does not run Python's functions"
    dynamo = sys.modules.get("torch._dynamo.convert_frame")
    if dynamo is not None and vars(dynamo).get("FRAME_COUNTER"):
        return "torch.compile has compiled functions of this process"
    return ""


def _has_method(file: str, name: str) -> bool:
    """Whether the class of a loaded module has an attribute, by its qualified name."""
    for module in list(sys.modules.values()):
        place = getattr(module, "__dict__", {}).get("__file__")
        if isinstance(place, str) and str(Path(place).resolve()) == file:
            found: object = module
            for part in name.split("."):
                found = getattr(found, part, None)
            if found is not None:
                return True
    return False
