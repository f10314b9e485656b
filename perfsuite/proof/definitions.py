"""What a Python file binds, as far as it can be told without running it: definitions, constants, and the rest.

Two versions of a file whose definitions differ only where nothing runs are the same program. So every statement of a
module or a class is one of three things: a definition, which runs when it is called; a plain binding, which matters to
those who name it; or anything else, which has run as soon as the module was imported.
"""

from __future__ import annotations

import ast
import copy
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = Function | ast.ClassDef

# Decorators that call what they are given as it is, and look into none of it.
_TRANSPARENT = frozenset({
    "abstractmethod", "asynccontextmanager", "cache", "cached_property", "classmethod", "contextmanager", "deleter",
    "enable_grad", "final", "getter", "inference_mode", "lru_cache", "no_grad", "overload", "override", "property",
    "setter", "staticmethod", "wraps",
})  # fmt: skip
_OF_CLASSES = frozenset({"dataclass", "final", "runtime_checkable", "total_ordering"})
_BASES_WITHOUT_HOOKS = frozenset({"ABC", "Exception", "Module", "Protocol", "ValueError", "object"})


@dataclass
class Bound:
    """The statements of one body, sorted. ``rebound`` are names that are bound twice: their order counts."""

    definitions: dict[str, Definition] = field(default_factory=dict)
    bindings: dict[str, ast.stmt] = field(default_factory=dict)
    others: list[ast.stmt] = field(default_factory=list)
    rebound: frozenset[str] = frozenset()


def bound(body: Iterable[ast.stmt], *, is_class: bool = False) -> Bound:
    """Of a class only its definitions are told apart: what else it holds, metaclasses and libraries look at."""
    found, times = Bound(), Counter[str]()
    for statement in (part for whole in _relevant(body) for part in _parts(whole)):
        names = _bound_names(statement)
        times.update(names)
        if isinstance(statement, Definition):
            found.definitions[statement.name] = statement
        elif not is_class and len(names) == 1 and _is_plain_binding(statement) and not _is_looked_up(names[0]):
            found.bindings[names[0]] = statement
        else:
            found.others.append(statement)
    found.rebound = frozenset(name for name, count in times.items() if count > 1)
    return found


def text_of(node: ast.AST | None) -> str:
    """Equal for nodes that compile to the same: without positions, annotations and docstrings."""
    return "" if node is None else ast.dump(_Bare().visit(copy.deepcopy(node)))


def description_of(function: Function) -> str:
    """What only those see who read descriptions: annotations and the docstring."""
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    arguments += [one for one in (function.args.vararg, function.args.kwarg) if one is not None]
    notes = [argument.annotation for argument in arguments] + [function.returns]
    return "|".join([*("" if note is None else ast.dump(note) for note in notes), docstring_of(function)])


def docstring_of(node: ast.Module | Definition) -> str:
    return ast.get_docstring(node, clean=False) or ""


def interface_of(function: Function) -> str:
    """What callers see of it: parameters and defaults."""
    return text_of(function.args)


def code_of(function: Function) -> str:
    """What runs when it is called, and what kind of function it is."""
    kind = type(function).__name__
    return "\n".join([kind, *map(text_of, without_docstring(function.body))])


def without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    return body[1:] if body and _is_string(body[0]) else body


def decorators_of(definition: Definition) -> str:
    return "|".join(map(text_of, definition.decorator_list))


def opaque_decorator(definition: Definition) -> str:
    """The first decorator that may do more with a function than call it, or look at a class; empty if none."""
    known = _OF_CLASSES if isinstance(definition, ast.ClassDef) else _TRANSPARENT
    return next((ast.unparse(one) for one in definition.decorator_list if last_name(one) not in known), "")


def last_name(node: ast.expr) -> str:
    """Of a.b.c(...) it is "c"."""
    while isinstance(node, ast.Call):
        node = node.func
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def may_register(definition: ast.ClassDef) -> bool:
    """Whether making the class may be noticed by what it inherits from, or by its metaclass."""
    return bool(definition.keywords) or any(last_name(base) not in _BASES_WITHOUT_HOOKS for base in definition.bases)


def is_quiet(node: ast.expr) -> bool:
    """Whether nothing runs of the project's when it is evaluated: literals, names, and what is made of them."""
    return all(isinstance(one, _QUIET) for one in ast.walk(node))


def runs_at_definition(function: Function) -> bool:
    """Whether defaults or annotations call something."""
    notes = [one.annotation for one in ast.walk(function.args) if isinstance(one, ast.arg) and one.annotation]
    defaults = [*function.args.defaults, *(one for one in function.args.kw_defaults if one)]
    return not all(map(is_quiet, [*defaults, *notes, *([function.returns] if function.returns else [])]))


def first_line(function: Function) -> int:
    """Of the function with its decorators, as its code says."""
    return min([function.lineno, *(one.lineno for one in function.decorator_list)])


def is_special(name: str) -> bool:
    """Whether Python itself looks the name up."""
    return name.startswith("__") and name.endswith("__")


_QUIET = (
    ast.Constant, ast.Name, ast.Attribute, ast.Tuple, ast.List, ast.Set, ast.Dict, ast.Subscript, ast.UnaryOp,
    ast.BinOp, ast.expr_context, ast.operator, ast.unaryop, ast.Starred, ast.Slice,
)  # fmt: skip
_LITERAL = (
    ast.Constant, ast.Tuple, ast.List, ast.Set, ast.Dict, ast.UnaryOp, ast.BinOp, ast.expr_context, ast.operator,
    ast.unaryop,
)  # fmt: skip


def _relevant(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Without what never runs, and what only names types."""
    for statement in body:
        if is_about_types(statement) or _is_string(statement) or isinstance(statement, ast.Pass):
            continue
        if isinstance(statement, ast.ImportFrom) and statement.module == "__future__":
            continue  # of those that there are, one is not the default, and that is about annotations
        yield statement


def is_about_types(statement: ast.stmt) -> bool:
    """Whether it is a block for type checkers, which never runs."""
    return isinstance(statement, ast.If) and last_name(statement.test) == "TYPE_CHECKING" and not statement.orelse


def _parts(statement: ast.stmt) -> list[ast.stmt]:
    """Of an import of several names, one for each: of these some may be new."""
    if isinstance(statement, ast.Import):
        return [ast.copy_location(ast.Import([alias]), statement) for alias in statement.names]
    if isinstance(statement, ast.ImportFrom):
        module, level = statement.module, statement.level
        return [ast.copy_location(ast.ImportFrom(module, [alias], level), statement) for alias in statement.names]
    return [statement]


def _is_string(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _is_plain_binding(statement: ast.stmt) -> bool:
    """A constant, or an import of a name from the standard library, which runs nothing of the project."""
    if isinstance(statement, ast.Import):
        return statement.names[0].name.partition(".")[0] in sys.stdlib_module_names
    if isinstance(statement, ast.ImportFrom):
        module = (statement.module or "").partition(".")[0]
        return statement.level == 0 and module in sys.stdlib_module_names and statement.names[0].name != "*"
    if isinstance(statement, ast.AnnAssign):
        value = statement.value
        return value is not None and is_quiet(statement.annotation) and _is_literal(value)
    return isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name) and _is_literal(
        statement.value
    )  # fmt: skip


def _is_looked_up(name: str) -> bool:
    """Whether Python reads the name of a module, such as ``__all__`` where another imports all of it."""
    return is_special(name) and name != "__version__"


def _is_literal(node: ast.expr) -> bool:
    return all(isinstance(one, _LITERAL) for one in ast.walk(node))


def _bound_names(statement: ast.stmt) -> list[str]:
    """What a statement binds in its body; of an import with several names, all of them."""
    if isinstance(statement, Definition):
        return [statement.name]
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name.partition(".")[0] for alias in statement.names]
    stored = [one for one in ast.walk(statement) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)]
    return [one.id for one in stored]


class _Bare(ast.NodeTransformer):
    """Removes annotations where they have no effect on what runs: in a class they may be fields."""

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:  # as ast calls it
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:  # as ast calls it
        if node.value is None or not node.simple:
            return node
        return ast.Assign(targets=[node.target], value=self.visit(node.value))

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:  # as ast calls it
        node.returns = None
        return self.generic_visit(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:  # as ast calls it
        node.returns = None
        return self.generic_visit(node)
