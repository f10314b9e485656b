"""In what two versions of a Python file differ, in terms of what must run, or be named, for that to matter."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

import msgspec

from perfsuite.proof.definitions import (
    Definition,
    Function,
    bound,
    code_of,
    decorators_of,
    description_of,
    docstring_of,
    first_line,
    interface_of,
    is_special,
    last_name,
    may_register,
    opaque_decorator,
    runs_at_definition,
    text_of,
)


class Changed(msgspec.Struct, frozen=True):
    """A function or method whose code differs, by its qualified name. ``line``: where it starts now; 0: it is gone.

    ``inherits``: whether its class has bases that may call it, which nobody sees who reads the project's code.
    """

    name: str
    line: int
    inherits: bool = False

    @property
    def owner(self) -> str:
        """The class that it is a method of, or nothing."""
        return self.name.rpartition(".")[0].rpartition(".")[2]

    @property
    def own(self) -> str:
        return self.name.rpartition(".")[2]


class Difference(msgspec.Struct, frozen=True):
    """``whole``: why everything that imports the file may behave differently; then nothing else counts.

    ``functions`` matter if they run, or can be reached; ``names``, bound differently, to those who name them;
    ``removed`` are methods that are gone, such as ``Model.forward``, which an inherited one may stand for now;
    ``described`` are functions of which only annotations or the docstring differ.
    """

    whole: str = ""
    functions: tuple[Changed, ...] = ()
    names: frozenset[str] = frozenset()
    removed: tuple[str, ...] = ()
    described: frozenset[str] = frozenset()

    @property
    def is_quiet(self) -> bool:
        return self == Difference()


def compare(before: str | None, after: str | None) -> Difference:
    """Of a file's texts; None where there is no such file. Never raises: what cannot be parsed differs as a whole."""
    if before is None:
        return Difference(whole="it is new")
    if after is None:
        return Difference(whole="it is gone")
    try:
        old, new = ast.parse(before), ast.parse(after)
    except (SyntaxError, ValueError, RecursionError) as error:
        return Difference(whole=f"it cannot be parsed ({error})")
    found = _Found()
    try:
        if docstring_of(old) != docstring_of(new):
            found.described.add("__doc__")
        _compare_futures(old, new, found)
        _compare_bodies(old.body, new.body, _Owner(), found)
    except _WholeError as error:
        return Difference(whole=str(error))
    return found.difference


class _WholeError(Exception):
    """What has run at import differs."""


@dataclass(frozen=True)
class _Owner:
    """The class whose body is looked at; without a name, a module."""

    name: str = ""
    inherits: bool = False

    def of(self, name: str) -> str:
        return f"{self.name}.{name}" if self.name else name


@dataclass
class _Found:
    functions: list[Changed] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    removed: list[str] = field(default_factory=list)
    described: set[str] = field(default_factory=set)

    @property
    def difference(self) -> Difference:
        names, described = frozenset(self.names), frozenset(self.described)
        return Difference("", tuple(self.functions), names, tuple(self.removed), described)


def _compare_futures(old: ast.Module, new: ast.Module, found: _Found) -> None:
    """Whether annotations are evaluated matters to those who read them, and in a class they may be fields."""
    sides = [
        {alias.name for one in module.body if isinstance(one, ast.ImportFrom) and one.module == "__future__"
         for alias in one.names}
        for module in (old, new)
    ]  # fmt: skip
    if sides[0] == sides[1]:
        return
    found.described.add("__annotations__")
    bodies = [node.body for node in ast.walk(new) if isinstance(node, ast.ClassDef)]
    if any(isinstance(one, ast.AnnAssign) for body in bodies for one in body):
        raise _WholeError("it evaluates the fields of classes otherwise")


def _compare_bodies(before: list[ast.stmt], after: list[ast.stmt], owner: _Owner, found: _Found) -> None:
    is_class = bool(owner.name)
    old, new = bound(before, is_class=is_class), bound(after, is_class=is_class)
    _compare_the_rest(old.others, new.others, owner)
    _check_order(before, after, old.rebound | new.rebound, owner)
    for name in {**old.bindings, **new.bindings}:
        if text_of(old.bindings.get(name)) != text_of(new.bindings.get(name)):
            found.names.add(name)
    for name in {**old.definitions, **new.definitions}:
        _compare_definitions(old.definitions.get(name), new.definitions.get(name), owner, found)


def _compare_the_rest(before: list[ast.stmt], after: list[ast.stmt], owner: _Owner) -> None:
    where = f"the body of {owner.name}" if owner.name else "what runs when it is imported"
    for one, other in zip(before, after, strict=False):
        if _differ(one, other, in_class=bool(owner.name)):
            raise _WholeError(f"{where} differs (line {other.lineno})")
    if len(before) != len(after):
        line = f" (line {after[len(before)].lineno})" if len(after) > len(before) else ""
        raise _WholeError(f"{where} differs{line}")


def _differ(one: ast.stmt, other: ast.stmt, *, in_class: bool) -> bool:
    """Annotations in a class may be fields."""
    if ast.dump(one) == ast.dump(other):
        return False
    return in_class or text_of(one) != text_of(other)


def _check_order(before: list[ast.stmt], after: list[ast.stmt], rebound: frozenset[str], owner: _Owner) -> None:
    """What is bound twice must be so by the same statements."""
    if rebound and list(map(ast.dump, before)) != list(map(ast.dump, after)):
        raise _WholeError(f"{owner.of(min(rebound))} is bound more than once, and the file differs")


def _compare_definitions(old: Definition | None, new: Definition | None, owner: _Owner, found: _Found) -> None:
    if old is not None and new is not None and ast.dump(old) == ast.dump(new):
        return
    one = new or old
    assert one is not None
    if old is not None and new is not None and type(old) is not type(new):
        raise _WholeError(f"{owner.of(one.name)} is another kind of thing")
    if isinstance(old, ast.ClassDef) or isinstance(new, ast.ClassDef):
        _compare_classes(old, new, owner, found)  # type: ignore[arg-type]  # both are classes, or one is missing
    else:
        _compare_functions(old, new, owner, found)


def _compare_functions(old: Function | None, new: Function | None, owner: _Owner, found: _Found) -> None:
    if old is None or new is None:
        _note_alone(old, new, owner, found)
        return
    name = owner.of(new.name)
    if decorators_of(old) != decorators_of(new):
        raise _WholeError(f"the decorators of {name} differ")
    is_described = description_of(old) != description_of(new)
    has_other_interface = interface_of(old) != interface_of(new)
    differs = has_other_interface or code_of(old) != code_of(new)
    if differs or is_described:
        _check_alone(new, name)
        _check_alone(old, name)
    found.described |= {new.name} if is_described else set()
    found.names |= {new.name} if has_other_interface else set()
    if differs:
        found.functions.append(Changed(name, first_line(new), owner.inherits))


def _note_alone(old: Function | None, new: Function | None, owner: _Owner, found: _Found) -> None:
    """A function that one side does not have."""
    one = new or old
    assert one is not None
    name = owner.of(one.name)
    _check_alone(one, name)
    if is_special(one.name):
        raise _WholeError(f"{name} is new or gone, which Python itself looks up")
    found.names.add(one.name)
    if new is None and owner.name:
        found.removed.append(name)
    found.functions.append(Changed(name, 0 if new is None else first_line(new), owner.inherits))


def _check_alone(function: Function, name: str) -> None:
    """Its definition must have no effect but to bind a name."""
    if decorator := opaque_decorator(function):
        raise _WholeError(f"{name} differs, which @{decorator} is given when it is imported")
    if runs_at_definition(function):
        raise _WholeError(f"{name} differs, whose defaults or annotations call something")


def _compare_classes(old: ast.ClassDef | None, new: ast.ClassDef | None, owner: _Owner, found: _Found) -> None:
    one = new or old
    assert one is not None
    name = owner.of(one.name)
    if old is None or new is None:
        _check_new_class(one, name)
        found.names.add(one.name)
        return
    heads = [[*map(text_of, [*c.bases, *c.keywords]), decorators_of(c)] for c in (old, new)]
    if heads[0] != heads[1]:
        raise _WholeError(f"the bases or decorators of {name} differ")
    if decorator := opaque_decorator(new):
        raise _WholeError(f"{name} differs, which @{decorator} is given when it is imported")
    if new.keywords:
        raise _WholeError(f"{name} differs, and has a metaclass or arguments")
    if docstring_of(old) != docstring_of(new):
        found.described.add(one.name)
    if may_register(new) and _members(old) != _members(new):
        raise _WholeError(f"{name} has other methods, and what it inherits may have noticed")
    _compare_bodies(old.body, new.body, _Owner(name, may_register(new)), found)


def _members(definition: ast.ClassDef) -> set[str]:
    return set(bound(definition.body, is_class=True).definitions)


def _check_new_class(definition: ast.ClassDef, name: str) -> None:
    """A class that is new, or gone, must have been noticed by nobody."""
    if may_register(definition) or definition.decorator_list:
        bases = ", ".join(map(last_name, definition.bases))
        raise _WholeError(f"{name} is new or gone, and {bases or 'what it is given to'} may have noticed")
    rest = bound(definition.body, is_class=True)
    if rest.others and any(not isinstance(one, ast.Assign | ast.AnnAssign) for one in rest.others):
        raise _WholeError(f"{name} is new or gone, and its body runs something")
