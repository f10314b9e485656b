"""Which layers of a model have been replaced in a result, and the result with some of them put back."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from perfsuite._compat.torch import own_modules
from perfsuite.techniques.quantization.parameters import is_same_kind


@dataclass(frozen=True)
class Layer:
    """A layer of the model, by its first name there, what stands in its place, and where: (parent, key) in the result.

    ``places`` is empty for the model itself.
    """

    name: str
    before: nn.Module
    after: nn.Module
    places: tuple[tuple[nn.Module, str], ...]


def replaced(model: nn.Module, result: nn.Module) -> list[Layer]:
    """The outermost modules of another type, in the order of the model."""
    found: dict[nn.Module, Layer] = {}
    for name, before, after, place in _pairs("", model, result, None, set()):
        known = found.get(before, Layer(name, before, after, ()))
        found[before] = Layer(known.name, before, after, (*known.places, *([place] if place else [])))
    return list(found.values())


def put(layers: Sequence[Layer], changed: Collection[Layer]) -> None:
    """Let the result have what it was given of these layers, and of all others what the model has."""
    for layer in layers:
        for parent, key in layer.places:
            own_modules(parent)[key] = layer.after if layer in changed else layer.before


Place = tuple[nn.Module, str]


def _pairs(
    name: str, before: nn.Module, after: nn.Module, place: Place | None, seen: set[tuple[nn.Module, nn.Module]]
) -> Iterator[tuple[str, nn.Module, nn.Module, Place | None]]:
    if not is_same_kind(before, after):
        yield name, before, after, place
    elif (before, after) not in seen:
        seen.add((before, after))
        for key, child in own_modules(before).items():
            other = own_modules(after).get(key)
            if child is not None and other is not None:
                yield from _pairs(f"{name}.{key}" if name else key, child, other, (after, key), seen)
