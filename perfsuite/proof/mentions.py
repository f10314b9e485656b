"""Who names what: which functions can reach a function that differs, one step away, told by names alone.

A call that did not run a changed function may run it the next time: a rare branch, every hundredth call. So functions
that name what differs are watched, too. What is kept under another name (``TABLE = {"fast": f}``, ``class D(C)``,
``import f as g``) is reached by whoever names that.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from perfsuite.proof.definitions import Function, last_name
from perfsuite.proof.sources import Changed

LOOKS_AROUND = "*"
"""The word of functions that look names up which are not written in them."""

_LOOKS_AROUND = frozenset({"__dict__", "__subclasses__", "dir", "getmembers", "globals", "import_module", "vars"})
_MOST_ROUNDS = 6
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
        return frozenset(origin for word in words for origin in self.origins.get(word, ()))


def reach_of(words: Iterable[str], that_name: Callable[[frozenset[str]], Mapping[str, ast.Module]]) -> Reach:
    """Follow names through the project's modules, by file, until no new one holds what differs."""
    origins = {word: frozenset({word}) for word in words}
    for _ in range(_MOST_ROUNDS):
        found, at_import = dict(origins), dict[str, frozenset[str]]()
        for path, module in that_name(frozenset(origins)).items():
            for handed in _handed_on(module.body):
                held = frozenset(origin for word in handed.named for origin in found.get(word, ()))
                if held and handed.calls:
                    at_import[path] = at_import.get(path, frozenset()) | held
                for carrier in handed.carriers if held else ():
                    found[carrier] = found.get(carrier, frozenset()) | held
        if found == origins:
            return Reach(origins, at_import)
        origins = found
    return Reach(origins, too_far=True)


def tripwires_of(module: ast.Module, changed: Iterable[Changed], reach: Reach) -> tuple[Tripwire, ...]:
    """The outermost functions and methods of a module that are to be watched."""
    lines = {one.line for one in changed if one.line}
    found = []
    for name, function in functions_of(module):
        line = min([function.lineno, *(one.lineno for one in function.decorator_list)])
        words = reach.of(words_in(function))
        if words or line in lines:
            found.append(Tripwire(name, line, words, line in lines))
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


def words_in(node: ast.AST) -> set[str]:
    """Names, attributes, imported names, and strings that are names; LOOKS_AROUND where others may be meant."""
    found: set[str] = set()
    stack = [node]
    while stack:
        one = stack.pop()
        found.update(_words(one))
        stack.extend(child for child in ast.iter_child_nodes(one) if child not in _notes_of(one))
    return found if found.isdisjoint(_LOOKS_AROUND) else found | {LOOKS_AROUND}


def test_words(module: ast.Module, function: str) -> set[str]:
    """What a test names, and what those of its file name that it uses."""
    bodies = _top_level(module)
    found: set[str] = set()
    following = {function}
    while following:
        new = {word for name in following for node in bodies.get(name, ()) for word in words_in(node)}
        following = (new & bodies.keys()) - found
        found |= new
    return found


def _words(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            yield name
        case ast.alias(name=name):
            yield from name.split(".")
        case ast.Constant(value=str() as text) if text.replace(".", "_").isidentifier():
            yield from text.split(".")
        case ast.Call(func=ast.Name(id="getattr"), args=[_, ast.Constant(), *_]):
            return
        case ast.Call(func=ast.Name(id="getattr")):
            yield LOOKS_AROUND


@dataclass(frozen=True)
class _Handed:
    """What a statement names that runs at import; the ``carriers`` may hold it from then on, and ``calls`` get it."""

    carriers: set[str]
    named: set[str]
    calls: bool = False


def _handed_on(body: Iterable[ast.stmt], owner: str = "") -> Iterator[_Handed]:
    for statement in body:
        match statement:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                heads = [*statement.decorator_list, *statement.args.defaults, *filter(None, statement.args.kw_defaults)]
                yield from (_Handed(set(), words_in(head), calls=True) for head in heads if _calls(head))
            case ast.ClassDef():
                for head in [*statement.bases, *statement.keywords, *statement.decorator_list]:
                    yield _Handed({statement.name}, words_in(head), _calls(head))
                yield from _handed_on(statement.body, statement.name)
            case ast.Import() | ast.ImportFrom():
                renamed = [alias for alias in statement.names if alias.asname]
                yield from (_Handed({str(one.asname)}, {one.name.rpartition(".")[2]}) for one in renamed)
            case ast.If(test=test) if last_name(test) == "TYPE_CHECKING" or _is_main(test):
                continue
            case ast.Assign(targets=[ast.Name(id="__all__")]):
                continue
            case _:
                plain = {one.id for one in ast.walk(statement) if isinstance(one, ast.Name)} - _BUILTINS
                is_plain = isinstance(statement, ast.Assign | ast.AnnAssign) and not _calls(statement)
                yield _Handed(plain | ({owner} - {""}), words_in(statement), calls=not is_plain)


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
