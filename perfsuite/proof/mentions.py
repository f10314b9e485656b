"""Who names what: which functions can reach a function that differs, told by names alone.

A call that did not run a changed function may run it the next time: a rare branch, every hundredth call. So functions
that name what differs are watched, too, and those that name these. What is kept under another name
(``TABLE = {"fast": f}``, ``class D(C)``, ``import f as g``) is reached by whoever names that.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property, partial

import msgspec

from perfsuite.proof.definitions import Function, first_line, is_about_types, last_name
from perfsuite.proof.scopes import Scope, forms_of, plain
from perfsuite.proof.sources import Changed
from perfsuite.proof.vocabulary import (
    ANYBODYS,
    BY_NAME,
    CALLED_BY_TORCH,
    IMPORTS,
    LOOKS_AROUND,
    WORDS_TO_CALL_BY_NAME,
    WORDS_TO_LOOK_AROUND,
)

_MOST_ROUNDS = 6
_MOST_CALLS = 12
_MOST_WORDS = 30_000
_IMPORTERS = frozenset({"__import__", "import_module"})
_ASKED_BY_NAME = frozenset({"__getattr__", "__getattribute__"})  # who asks is seen to name what it wants
_BUILTINS = frozenset(dir(builtins))


class Tripwire(msgspec.Struct, frozen=True):
    """A function that is watched: because it differs, or because it names what does (``words``)."""

    name: str
    line: int
    words: frozenset[str]
    differs: bool


@dataclass(frozen=True)
class Reach:
    """``origins``: for each word, the names in it that are bound, or behave, differently.

    ``at_import``: by file, those that calls are given when it is imported, whose effects nobody can follow.
    """

    origins: Mapping[str, frozenset[str]]
    at_import: Mapping[str, frozenset[str]] = field(default_factory=dict)
    too_far: bool = False

    def of(self, words: Iterable[str]) -> frozenset[str]:
        return _held(words, self.origins)


def _held(words: Iterable[str], origins: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """The origins of words, of which some are patterns."""
    found = set[str]()
    for word in words:
        if not word.startswith(BY_NAME):
            found |= origins.get(word, frozenset())
            continue
        for other, held in origins.items():
            is_name = other != LOOKS_AROUND and not other.startswith(IMPORTS)
            if is_name and fnmatchcase(plain(other), word.removeprefix(BY_NAME)):
                found |= held
    return frozenset(found)


@dataclass(frozen=True)
class Module:
    """A parsed file, and what its names stand for."""

    tree: ast.Module
    scope: Scope

    @cached_property
    def functions(self) -> Mapping[str, tuple[int, frozenset[str]]]:
        """The outermost functions and methods: the line that each begins at, and the words in it."""
        return {
            name: (first_line(one), frozenset(words_in(one, self.scope, name.rpartition(".")[0])))
            for name, one in functions_of(self.tree)
        }


def reach_of(
    origins: Mapping[str, frozenset[str]], that_name: Callable[[frozenset[str]], Mapping[str, Module]]
) -> Reach:
    """Follow words through the project's modules, by file, until no new one holds what differs."""
    for _ in range(_MOST_ROUNDS):
        found, at_import = dict(origins), dict[str, frozenset[str]]()
        for path, module in that_name(frozenset(origins)).items():
            for handed in _handed_on(module):
                held = _held(handed.named, found)
                if held and handed.calls:
                    at_import[path] = at_import.get(path, frozenset()) | held
                for word in (form for carrier in handed.carriers if held for form in forms_of(path, carrier)):
                    found[word] = found.get(word, frozenset()) | held
        if found == origins:
            return Reach(origins, at_import)
        origins = found
    return Reach(origins, too_far=True)


def called_on(reach: Reach, that_name: Callable[[frozenset[str]], Mapping[str, Module]]) -> Reach:
    """Who names a function that can reach what differs can reach it, too: calls are followed from function to function.

    Methods that Python or torch call, and tables of functions, end it: a registry would reach all that is in it.
    """
    origins = dict(reach.origins)
    for _ in range(_MOST_CALLS):
        found = dict(origins)
        for path, module in that_name(frozenset(origins)).items():
            for name, (_, words) in module.functions.items():
                held = _held(words, origins) - {LOOKS_AROUND}
                for word in (word for word in _calls_of(path, name) if held):
                    found[word] = found.get(word, frozenset()) | held
        if found == origins:
            return replace(reach, origins=origins)
        origins = found
        if len(origins) > _MOST_WORDS:
            break
    return replace(reach, too_far=True)


def _calls_of(path: str, name: str) -> Iterator[str]:
    """The words of who calls a function by its name, if that is how it is called."""
    own = name.rpartition(".")[2]
    if own.startswith("__") or own in CALLED_BY_TORCH:
        return
    yield from (word for word in forms_of(path, name, inherits=True) if word not in ANYBODYS)


def tripwires_of(module: Module, changed: Iterable[Changed], reach: Reach) -> tuple[Tripwire, ...]:
    """The outermost functions and methods of a module that are to be watched."""
    lines = {one.line for one in changed if one.line}
    found = []
    for name, (line, words) in module.functions.items():
        reached = reach.of(words)
        if reached or line in lines:
            found.append(Tripwire(name, line, reached, line in lines))
    return tuple(found)


def functions_of(module: ast.Module) -> Iterator[tuple[str, Function]]:
    """With their qualified names; also those in branches, and in classes of classes."""
    stack: list[tuple[str, ast.AST]] = [("", module)]
    while stack:
        prefix, node = stack.pop()
        for child in ast.iter_child_nodes(node):
            if isinstance(child, Function):
                yield f"{prefix}{child.name}", child
            elif isinstance(child, ast.ClassDef):
                stack.append((f"{prefix}{child.name}.", child))
            elif isinstance(child, ast.stmt | ast.ExceptHandler):
                stack.append((prefix, child))


def words_in(node: ast.AST, scope: Scope, owner: str = "") -> set[str]:
    """Names, attributes, imported names, and strings that are names; LOOKS_AROUND where others may be meant.

    ``owner`` is the class that it is a method of.
    """
    found: set[str] = set()
    stack = [node]
    while stack:
        one = stack.pop()
        found.update(_words(one, scope, owner))
        found.update(f"{IMPORTS}{stem}" for stem in _stems_of(one))
        stack.extend(child for child in ast.iter_child_nodes(one) if child not in _notes_of(one))
    if isinstance(node, Function) and node.name in _ASKED_BY_NAME:
        return {word for word in found if not word.startswith(BY_NAME)}
    return found


def test_words(module: Module, function: str) -> set[str]:
    """What a test names, and what those of its file name that it uses."""
    bodies, own = _top_level(module.tree), f"{module.scope.path}:"
    found: set[str] = set()
    following, done = {function}, set[str]()
    while following:
        found |= {word for name in following for node in bodies.get(name, ()) for word in words_in(node, module.scope)}
        done |= following
        following = {word.removeprefix(own) for word in found} & bodies.keys() - done
    return found


def _words(node: ast.AST, scope: Scope, owner: str) -> Iterator[str]:
    match node:
        case ast.Name(id=name):
            yield scope.word_of_name(name)
            yield from [LOOKS_AROUND] if name in WORDS_TO_LOOK_AROUND else []
            yield from [f"{BY_NAME}*"] if name in WORDS_TO_CALL_BY_NAME - {"getattr"} else []
        case ast.Attribute():
            yield from scope.word_of_attribute(node, owner)
            yield from [LOOKS_AROUND] if node.attr in WORDS_TO_LOOK_AROUND else []
            yield from [f"{BY_NAME}*"] if node.attr == "methodcaller" else []
        case ast.ImportFrom(module=module, names=names):
            source = (module or "").rpartition(".")[2]
            yield from (f"{source}~{alias.name}" for alias in names)
            yield from (alias.name for alias in names)
        case ast.Constant(value=str() as text) if text.replace(".", "_").isidentifier():
            yield from text.split(".")
        case ast.Call(func=ast.Name(id="getattr"), args=[_, ast.Constant(), *_]):
            return
        case ast.Call(func=ast.Name(id="getattr"), args=[value, name, *_]):
            yield LOOKS_AROUND
            yield from [] if scope.is_foreign(value) else [BY_NAME + _pattern(name)]


def _stems_of(node: ast.AST) -> Iterator[str]:
    """The last names of modules that it may import, and of the packages around them."""
    match node:
        case ast.ImportFrom(module=module, names=names):
            yield from (*(module or "").split("."), *(alias.name for alias in names))
        case ast.Import(names=names):
            yield from (stem for alias in names for stem in alias.name.split("."))
        case ast.Call(func=func, args=[ast.Constant(value=str() as text), *_]) if last_name(func) in _IMPORTERS:
            yield from text.split(".")


def _pattern(node: ast.expr) -> str:
    """Of the texts that an expression may be, with ``*`` for what only a run knows."""
    match node:
        case ast.Constant(value=str() as text):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(map(_pattern, parts))
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _pattern(left) + _pattern(right)
    return "*"


@dataclass(frozen=True)
class _Handed:
    """What a statement names that runs at import; the ``carriers`` may hold it from then on, and ``calls`` get it."""

    carriers: set[str]
    named: set[str]
    calls: bool = False


def _handed_on(module: Module, body: Iterable[ast.stmt] | None = None, owner: str = "") -> Iterator[_Handed]:
    """Of the module's statements, or those of a class (``owner``)."""
    words = partial(words_in, scope=module.scope)
    for statement in module.tree.body if body is None else body:
        match statement:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                heads = [*statement.decorator_list, *statement.args.defaults, *filter(None, statement.args.kw_defaults)]
                yield from (_Handed(set(), words(head), calls=True) for head in heads if _calls(head))
            case ast.ClassDef():
                for head in [*statement.bases, *statement.keywords, *statement.decorator_list]:
                    yield _Handed({statement.name}, words(head), _calls(head))
                yield from _handed_on(module, statement.body, statement.name)
            case ast.ImportFrom():
                yield from _imported(statement)
            case _ if not _is_of_no_effect(statement):
                names = {one.id for one in ast.walk(statement) if isinstance(one, ast.Name)} - _BUILTINS
                is_plain = isinstance(statement, ast.Assign | ast.AnnAssign) and not _calls(statement)
                yield _Handed(names | ({owner} - {""}), words(statement), calls=not is_plain)


def _is_of_no_effect(statement: ast.stmt) -> bool:
    """What never runs at import, or only lists names; modules that are imported are asked for what they have."""
    match statement:
        case ast.If(test=test):
            return is_about_types(statement) or _is_main(test)
        case ast.Assign(targets=[ast.Name(id="__all__")]) | ast.Import():
            return True
    return False


def _imported(statement: ast.ImportFrom) -> Iterator[_Handed]:
    """What a module imports it has, too, for those who import it from there."""
    source = (statement.module or "").rpartition(".")[2]
    for alias in statement.names:
        yield _Handed({alias.asname or alias.name}, {f"{source}~{alias.name}"})


def _calls(node: ast.AST) -> bool:
    return any(isinstance(one, ast.Call) for one in ast.walk(node))


def _notes_of(node: ast.AST) -> list[ast.AST]:
    """Annotations: who reads them is told apart."""
    match node:
        case ast.arg(annotation=ast.AST() as note) | ast.FunctionDef(returns=ast.AST() as note):
            return [note]
        case ast.AsyncFunctionDef(returns=ast.AST() as note) | ast.AnnAssign(annotation=note):
            return [note]
    return []


def _is_main(test: ast.expr) -> bool:
    return isinstance(test, ast.Compare) and last_name(test.left) == "__name__"


def _top_level(module: ast.Module) -> dict[str, list[ast.AST]]:
    """By what they bind, the statements of a module; methods stand for themselves, too."""
    found: dict[str, list[ast.AST]] = {}
    for statement in module.body:
        for one in ast.walk(statement):
            if isinstance(one, Function | ast.ClassDef):
                found.setdefault(one.name, []).append(one)
            elif isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store):
                found.setdefault(one.id, []).append(statement)
    return found
