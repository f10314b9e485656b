"""What a measurement is of, beside its name: two that differ here are different cases, whatever they are called.

Names hide much: pytest calls the second of several objects ``pair1``, and the second call of ``perf`` in a test is
``#2``, whatever they are. So a baseline also keeps a digest of each parameter, and a sketch of what is called.
A value that offers nothing stable to digest has no digest, and is not compared.
"""

from __future__ import annotations

import enum
import hashlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Set
from functools import partial
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

CALL = "perf()"  # no parameter can be called so
_DIGITS = 12  # hexadecimal, of a digest
_MOST_VALUES = 10_000  # in one parameter; what holds more is not digested
_ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]{4,}")
_ATOMS = (str, bytes, int, float, complex, type(None), type(Ellipsis), range, slice, PurePath, re.Pattern)


class _NoDigestError(Exception):
    """A value has nothing that is the same in every process."""


def parameters(values: Mapping[str, object]) -> dict[str, str]:
    """A digest for each parameter that offers one; equal in every process, whatever its hash seed."""
    digests = {name: digest(value) for name, value in values.items()}
    return {name: found for name, found in digests.items() if found is not None}


def digest(value: object) -> str | None:
    """A digest of a value, or None where none can be made.

    Of plain values and containers by value; of arrays and tensors by type and shape, because their values
    are often drawn at random; of functions and classes by name; of other objects by their attributes.
    """
    budget = iter(range(_MOST_VALUES))
    try:
        encoded = _encoded(value, budget, ())
    except Exception:  # also what foreign objects raise when they are looked at
        return None
    return hashlib.sha256(encoded).hexdigest()[:_DIGITS]


def differing(stored: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """The names that both have with different digests; the call comes first."""
    return tuple(name for name in sorted(stored.keys() & now.keys()) if stored[name] != now[name])


def call_sketch(function: Callable[..., object], args: Collection[object] = ()) -> str:
    """What is called, such as ``sorted(list[1000])``: the function's name, types and sizes of its arguments.

    A lambda is told by the names that it uses. Neither modules nor values matter, so that moved code and
    other random data are the same case.
    """
    if isinstance(function, partial):
        return call_sketch(function.func, (*function.args, *args))
    return f"{_name_of(function)}({', '.join(map(_sketch, args))})"


def changes_with_the_process(name: str, values: Collection[object]) -> bool:
    """Whether a test's name holds the text of a set, whose order is the hash seed's, or an address in memory."""
    return _ADDRESS.search(name) is not None or any(str(found) in name for value in values for found in _sets_in(value))


def _sets_in(value: object) -> Iterator[Set[Any]]:
    """The sets of two or more texts in a value; numbers keep their order in every process."""
    if isinstance(value, Set):
        if len(value) > 1 and any(isinstance(item, str | bytes) for item in value):
            yield value
    elif isinstance(value, Mapping):
        yield from (found for item in value.values() for found in _sets_in(item))
    elif isinstance(value, list | tuple):
        yield from (found for item in value for found in _sets_in(item))


def _name_of(function: Any) -> str:
    name = getattr(function, "__qualname__", None)
    if not isinstance(name, str):  # an object that can be called
        return type(function).__qualname__
    code = getattr(function, "__code__", None)
    if name.endswith("<lambda>") and code is not None:
        return f"{name}:{','.join((*code.co_names, *code.co_freevars))}"
    return name


def _sketch(value: object) -> str:
    kind, shape = type(value).__name__, getattr(value, "shape", None)
    if isinstance(shape, tuple):
        return f"{kind}[{'x'.join(map(str, shape))}]"
    if isinstance(value, Collection):
        return f"{kind}[{len(value)}]"
    return kind


def _encoded(value: object, budget: Iterator[int], above: tuple[int, ...]) -> bytes:
    """Bytes that only equal values have. ``above`` are the objects that contain this one, by which a cycle is found."""
    if next(budget, None) is None or id(value) in above:
        raise _NoDigestError
    head = type(value).__qualname__  # without its module: moved code is the same case
    if isinstance(value, enum.Enum):
        return _joined(head, [value.name.encode()])
    if isinstance(value, _ATOMS):
        return _joined(head, [repr(value).encode(errors="surrogatepass")])
    if isinstance(value, type | FunctionType | BuiltinFunctionType | ModuleType):
        return _joined(head, [_named(value).encode()])
    return _joined(head, _parts_of(value, partial(_encoded, budget=budget, above=(*above, id(value)))))


def _parts_of(value: Any, encode: Callable[[object], bytes]) -> list[bytes]:
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and hasattr(value, "dtype"):
        return [repr(tuple(shape)).encode(), str(value.dtype).encode()]
    if isinstance(value, Mapping):
        return sorted(encode(key) + encode(item) for key, item in value.items())
    if isinstance(value, Set):
        return sorted(map(encode, value))
    if isinstance(value, list | tuple):
        return list(map(encode, value))
    if isinstance(value, partial):
        return [encode(value.func), encode(value.args), encode(value.keywords)]
    if isinstance(value, MethodType):
        return [encode(value.__func__), encode(value.__self__)]
    return [encode(_attributes(value))]


def _attributes(value: object) -> dict[str, object]:
    """The attributes of an object. One without any, such as a lock or an iterator, has no digest."""
    names = [*getattr(value, "__dict__", ()), *(name for kind in type(value).__mro__ for name in _slots(kind))]
    if not names:
        raise _NoDigestError
    return {name: getattr(value, name) for name in names if hasattr(value, name)}


def _slots(kind: type) -> Collection[str]:
    slots = kind.__dict__.get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _named(value: Any) -> str:
    """A lambda by what it uses, everything else by its name."""
    if isinstance(value, FunctionType):
        return f"{_name_of(value)}:{[found for found in value.__code__.co_consts if isinstance(found, _ATOMS)]}"
    return str(getattr(value, "__qualname__", value.__name__))


def _joined(head: str, parts: list[bytes]) -> bytes:
    """The parts with their lengths, so that different lists of parts never give the same bytes."""
    return b"".join(f"{len(part)}:".encode() + part for part in (head.encode(), *parts))
