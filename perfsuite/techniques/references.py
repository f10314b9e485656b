"""Layers that a model also reaches past its tree of modules: through lists, dicts, partials and functions of its own.

What calls a layer from there must call the one in its place; else the old one would run on, in silence.
"""

from __future__ import annotations

import functools
import operator
import sys
from collections.abc import Iterator, Mapping
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from torch import Tensor, nn

from perfsuite._compat.torch import COMPILED, bind_compiled, hooks_of_calls, is_compiled_alone, own_modules
from perfsuite.errors import TechniqueError

_ITS_OWN = frozenset(vars(nn.Module()))  # what each module has: the tree, and its hooks
_FOREIGN = {*sys.stdlib_module_names, "torch", "numpy"}  # whose objects hold no layers of a model
_ATOMS = (str, bytes, int, float, complex, type(None), type, ModuleType, FunctionType, BuiltinFunctionType, Tensor)


def check_functions(model: nn.Module) -> None:
    """Raises TechniqueError for the first function in an attribute that holds a layer of the model in its closure.

    A copy of the model has that very function, which goes on to call the layers of the model that was given.
    """
    layers = {*model.modules()}
    for name, module in model.named_modules():
        if is_compiled_alone(module):  # torch makes that function anew for a copy
            continue
        held = ((key, value) for key, value in vars(module).items() if key not in _ITS_OWN)
        for key, value in (*held, *(("a hook", hook) for hook in hooks_of_calls(module))):
            if any(_holds(function, layers) for function in _functions(value)):
                raise TechniqueError(
                    f"{key!r} of {repr(name) if name else 'the model'} is a function that was made with layers of the "
                    "model, and would call those in a copy, too",
                    "make it a method of the module; what is compiled, compile after the technique was applied",
                )


def put_in_place(model: nn.Module, done: Mapping[nn.Module, nn.Module]) -> None:
    """Wherever attributes of the model's modules reach a module that was replaced, let them reach the one in its place.

    Raises TechniqueError where a method of it is meant that the other does not have.
    """
    changed = {old: new for old, new in done.items() if old is not new}
    if not changed:
        return
    rewriting = _Rewriting(changed)
    for module in [*model.modules()]:
        rewriting.attributes(module, skipping=_ITS_OWN)
        if is_compiled_alone(module) and any(new is own_modules(module)[COMPILED] for new in changed.values()):
            bind_compiled(module)


class _Rewriting:
    """One walk through all that attributes hold; each object is met once."""

    def __init__(self, changed: Mapping[nn.Module, nn.Module]) -> None:
        self._changed = changed
        self._seen: dict[int, Any] = {}  # by id; kept, so that no other object gets that id

    def attributes(self, owner: Any, skipping: frozenset[str] = frozenset()) -> None:
        for name, value in [*vars(owner).items()]:
            if name not in skipping and (new := self.of(value)) is not value:
                object.__setattr__(owner, name, new)

    def of(self, value: Any) -> Any:
        """What is to stand where ``value`` does: itself, unless it cannot be changed in place."""
        if isinstance(value, nn.Module) and value in self._changed:
            return self._changed[value]
        if isinstance(value, _ATOMS) or id(value) in self._seen:
            return value
        if isinstance(value, MethodType):
            return self._method(value)
        if isinstance(value, functools.partial):
            parts = (value.func, value.args, value.keywords)
            func, args, keywords = new = tuple(self.of(part) for part in parts)
            return value if all(map(operator.is_, new, parts)) else functools.partial(func, *args, **keywords)
        if isinstance(value, tuple | frozenset):
            made = [self.of(item) for item in value]
            return value if all(map(operator.is_, made, value)) else _like(value, made)
        self._seen[id(value)] = value
        self._in_place(value)
        return value

    def _in_place(self, value: Any) -> None:
        if isinstance(value, list):
            value[:] = [self.of(item) for item in value]
        elif isinstance(value, dict | set):
            self._refilled(value)
        elif isinstance(value, nn.Module):  # beside the tree
            for name, child in own_modules(value).items():
                own_modules(value)[name] = self.of(child)
            self.attributes(value, _ITS_OWN)
        elif hasattr(value, "__dict__") and type(value).__module__.partition(".")[0] not in _FOREIGN:
            self.attributes(value)

    def _refilled(self, value: Any) -> None:
        """A dict, whose keys may be modules, too, or a set."""
        old = [*(value.items() if isinstance(value, dict) else value)]
        new = [self.of(item) for item in old]
        if not all(map(operator.is_, new, old)):
            value.clear()
            value.update(new)

    def _method(self, method: MethodType) -> Any:
        new, name = self.of(method.__self__), method.__func__.__name__
        if new is method.__self__:
            return method
        if not hasattr(new, name):
            raise TechniqueError(
                f"an attribute holds the method {name!r} of a {type(method.__self__).__name__}, and what is to replace "
                "it has none",
                f"exclude it: exclude=({type(method.__self__).__name__!r},)",
            )
        return getattr(new, name)


def _like(old: Any, items: list[Any]) -> Any:
    return type(old)(*items) if hasattr(old, "_fields") else type(old)(items)


def _functions(value: Any) -> Iterator[FunctionType]:
    """The functions in an attribute, also in containers. Copies have the same ones; of methods they have their own."""
    seen, waiting = set(), [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, FunctionType):
            yield value
        elif isinstance(value, list | tuple | set | dict | functools.partial) and id(value) not in seen:
            seen.add(id(value))
            waiting += _parts(value)


def _parts(value: Any) -> list[Any]:
    if isinstance(value, functools.partial):
        return [value.func, value.args, value.keywords]
    return [*(value.values() if isinstance(value, dict) else value)]


def _holds(function: FunctionType, layers: set[nn.Module], deep: int = 4) -> bool:
    """Whether its closure, or the defaults of its arguments, have one of the layers, so many functions deep."""
    held: list[Any] = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    for cell in function.__closure__ or ():
        try:
            held.append(cell.cell_contents)
        except ValueError:  # nothing is in it yet
            continue
    return any(_reaches(value, layers, deep) for value in held)


def _reaches(value: Any, layers: set[nn.Module], deep: int) -> bool:
    if isinstance(value, nn.Module):
        return value in layers
    if isinstance(value, MethodType):
        return _reaches(value.__self__, layers, deep)
    if isinstance(value, list | tuple):
        return any(isinstance(item, nn.Module) and item in layers for item in value)
    return deep > 0 and isinstance(value, FunctionType) and _holds(value, layers, deep - 1)
