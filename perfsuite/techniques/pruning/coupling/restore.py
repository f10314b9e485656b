"""A fresh model given the shapes that a cut left, from its record: without following a call, and without weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from torch import Tensor, nn

from perfsuite.errors import StorageError
from perfsuite.techniques.pruning.coupling.units import Place, put

Size = Annotated[int, msgspec.Meta(ge=1)]


class Record(msgspec.Struct, frozen=True):
    """Shapes of tensors by name, attributes by module and name, the groups that were cut, and those that were not."""

    shapes: dict[str, tuple[Size, ...]] = {}
    numbers: dict[str, dict[str, Size | tuple[Size, ...]]] = {}
    groups: tuple[tuple[str, str], ...] = ()
    refused: tuple[str, ...] = ()


def record_in(structure: Mapping[str, Any]) -> Record:
    """Raises StorageError for what is no such record."""
    try:
        return msgspec.convert(structure.get("coupled", {}), type=Record)
    except msgspec.ValidationError as error:
        raise StorageError(f"the record of what was cut is broken: {error}", "save the model again") from error


def restore(model: nn.Module, record: Record) -> None:
    """Give a model these shapes and numbers, in place; no number grows, and tied tensors stay tied.

    Raises StorageError for a record of another model.
    """
    tied: dict[int, tuple[Tensor, list[Place], tuple[int, ...]]] = {}
    for name, shape in record.shapes.items():
        module, _, attribute = name.rpartition(".")
        place = Place(module, attribute)
        old = _tensor(model, place, name)
        if old.dim() != len(shape) or any(new > size for new, size in zip(shape, old.shape, strict=False)):
            raise _other(model, f"tensor {name!r} was cut to {shape} and has the shape {tuple(old.shape)}")
        tied.setdefault(id(old), (old, [], shape))[1].append(place)
    for old, places, shape in tied.values():
        new = old.detach()
        for dim, size in enumerate(shape):
            new = new.narrow(dim, 0, size)
        put(model, tuple(places), new.clone())
    for path, numbers in record.numbers.items():
        for name, value in numbers.items():
            _set(model, path, name, value)


def _tensor(model: nn.Module, place: Place, name: str) -> Tensor:
    try:
        found = place.of(model)
    except AttributeError as error:
        raise _other(model, f"there is no tensor {name!r}") from error
    if not isinstance(found, Tensor):
        raise _other(model, f"{name!r} is no tensor")
    return found


def _set(model: nn.Module, path: str, name: str, value: Any) -> None:
    try:
        module = model.get_submodule(path)
    except AttributeError as error:
        raise _other(model, f"there is no module {path!r}") from error
    old = vars(module).get(name)
    if type(value) is int and type(old) is int and value <= old:
        setattr(module, name, value)
    elif isinstance(value, tuple) and isinstance(old, tuple | list) and len(value) == len(old):
        setattr(module, name, type(old)(value))
    else:
        raise _other(model, f"{name!r} of module {path!r} is {old!r}, where {value!r} was recorded")


def _other(model: nn.Module, what: str) -> StorageError:
    return StorageError(
        f"the record of what was cut does not fit this {type(model).__name__}: {what}",
        "give the model as it was built before it was pruned: load_model(folder, model=...)",
    )
