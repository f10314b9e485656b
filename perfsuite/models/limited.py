"""Models that are built no larger than the file that holds their weights: a recipe from outside may ask for anything.

What a file holds stands in its header, which is read in no time and without memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from perfsuite.errors import StorageError
from perfsuite.files import check_regular

# How far a model may go beyond its file while it is built: shared tensors are stored once, and where techniques were
# applied, weights may be packed, or were larger before. What is not stored, such as tables of positions, is small.
_TENSORS, _SHARED, _REDUCED = 4, 4, 64
_SPARE_TENSORS, _SPARE_ELEMENTS = 64, 2**20
_REMEDY = "check that the recipe and the weights belong together, or save the model again"


@dataclass(frozen=True)
class Header:
    """The tensors of safetensors files: shapes, dtypes as the files have them ("BF16"), and which are stored elsewhere.

    ``tied``: names of tensors that are not stored, with the name of the one that they are.
    """

    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, str] = field(default_factory=dict)
    tied: Mapping[str, str] = field(default_factory=dict)

    @property
    def elements(self) -> int:
        return sum(map(math.prod, self.shapes.values()))


def read_header(*paths: Path) -> Header:
    """Of one file, or of several that hold a model together. Raises OSError and SafetensorError for no such file."""
    shapes: dict[str, tuple[int, ...]] = {}
    dtypes: dict[str, str] = {}
    tied: dict[str, str] = {}
    for path in paths:
        check_regular(path)
        with safetensors.safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  # the file is no dict
                part = file.get_slice(name)
                shapes[name], dtypes[name] = tuple(part.get_shape()), part.get_dtype()
            tied |= file.metadata() or {}
    return Header(shapes, dtypes, {name: other for name, other in tied.items() if other in shapes})


def check_counts(config: Mapping[str, Any], header: Header) -> None:
    """Raises StorageError for a config that asks for more layers, labels or positions than the file has room for.

    Lists and tables of them are made before there is a module.
    """
    for name, value in config.items():
        if isinstance(value, dict):
            check_counts(value, header)
        elif isinstance(value, int) and value > _most(name, header):
            raise StorageError(f"the recipe says {name} = {value}, the file has {_about(header)}", _REMEDY)


def _most(name: str, header: Header) -> float:
    if "layer" in name:
        return _SPARE_TENSORS + _TENSORS * len(header.shapes)
    counts = name.startswith(("num_", "n_", "max_"))
    return _SPARE_ELEMENTS + min(header.elements, _SPARE_ELEMENTS) if counts else math.inf


@contextmanager
def limited_to(header: Header, reduced: bool) -> Iterator[None]:
    """Raises StorageError as soon as the modules that are built hold clearly more than the file.

    Each parameter is counted before it is initialised, which is before it takes memory. ``reduced``: the file
    may be smaller than what is built, because techniques have made it so.
    """
    tensors = elements = 0
    most_tensors = _SPARE_TENSORS + _TENSORS * len(header.shapes)
    most_elements = _SPARE_ELEMENTS + (_REDUCED if reduced else _SHARED) * header.elements

    def count(_module: nn.Module, _name: str, parameter: Tensor | None) -> None:
        nonlocal tensors, elements
        tensors, elements = tensors + 1, elements + (0 if parameter is None else parameter.numel())
        if tensors > most_tensors or elements > most_elements:
            asked = f"{tensors} tensors of {elements} elements, or more"
            raise StorageError(f"the recipe is of {asked}; the file has {_about(header)}", _REMEDY)

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def _about(header: Header) -> str:
    return f"{len(header.shapes)} tensors of {header.elements} elements"
