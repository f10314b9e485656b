"""Attributes that say how many units there are: which numbers of a module's own code fall as units go.

A call shows that a shape was asked for, not where its numbers came from. Attributes with the same value are
candidates; which of them it is, the proof says.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from torch import nn

from perfsuite.techniques.pruning.coupling.units import Number, Units, Wanted

_TELLING = ("head", "group")  # in the names of attributes that count heads or groups
_MOST = 32


def settled(model: nn.Module, group: Units) -> Iterator[Units]:
    """The group with each choice of attributes, the likeliest first; at least one."""
    wanted = {(w.module, w.value, w.per_unit, w.name): w for w in group.wanted}
    options = [_options(model, each) for each in wanted.values()]
    seen = set()
    for choice in itertools.islice(itertools.product(*options), _MOST):
        numbers = tuple(sorted({number for numbers in choice for number in numbers}, key=repr))
        if numbers not in seen and _is_one_each(numbers):
            seen.add(numbers)
            yield replace(group, numbers=numbers)
    if not seen:
        yield group


def _is_one_each(numbers: tuple[Number, ...]) -> bool:
    places = [(number.module, number.name, number.place) for number in numbers]
    return len(places) == len(set(places))


def _options(model: nn.Module, wanted: Wanted) -> list[tuple[Number, ...]]:
    if wanted.name and vars(model.get_submodule(wanted.module)).get(wanted.name) == wanted.value:
        return [(Number(wanted.module, wanted.name, wanted.per_unit),)]
    found = _candidates(model, wanted)
    several = [tuple(found)] if len(found) > 1 else []
    if wanted.per_unit > 1:  # a product of how many there are and how wide each is
        found += _candidates(model, replace(wanted, value=wanted.value // wanted.per_unit, per_unit=1))
    single: list[tuple[Number, ...]] = [(number,) for number in found]
    if wanted.per_unit == 1 and found and _tells(found[0]):
        return [*single, *several, ()]
    return [(), *single, *several]  # what need not change stays: the value may be that of something else


def _candidates(model: nn.Module, wanted: Wanted) -> list[Number]:
    """Attributes of the module, or of the nearest one around it that has some, with that value."""
    path = wanted.module
    while True:
        found = list(_with_value(path, model.get_submodule(path), wanted))
        if found or not path:
            return sorted(found, key=lambda number: not _tells(number))
        path = path.rpartition(".")[0]


def _tells(number: Number) -> bool:
    return any(word in number.name.lower() for word in _TELLING)


def _with_value(path: str, module: Any, wanted: Wanted) -> Iterator[Number]:
    for name, value in vars(module).items():
        if type(value) is int and value == wanted.value:
            yield Number(path, name, wanted.per_unit)
        elif type(value) in (tuple, list) and all(type(v) is int for v in value):
            for place, number in enumerate(value):
                if number == wanted.value:
                    yield Number(path, name, wanted.per_unit, place)
