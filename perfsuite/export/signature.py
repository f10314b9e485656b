"""What an exported program is called with: names, dtypes, and dimensions that may change within bounds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec
from torch import Tensor

from perfsuite.errors import UsageError
from perfsuite.units import dtype_name

Constant = bool | int | float | str | None


class Range(msgspec.Struct, frozen=True):
    """From ``low`` to ``high``, both included; None is no upper bound. ``without``: sizes in between that are not."""

    low: int = 1
    high: int | None = None
    without: tuple[int, ...] = ()

    def __contains__(self, size: int) -> bool:
        return self.low <= size and (self.high is None or size <= self.high) and size not in self.without

    def __str__(self) -> str:
        but = f" without {', '.join(map(str, self.without))}" if self.without else ""
        return (f"at least {self.low}" if self.high is None else f"{self.low} to {self.high}") + but


class Argument(msgspec.Struct, frozen=True):
    """A tensor. Of its dimensions, a number is fixed, and a name stands for one that may change."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def resolved(self, sizes: Mapping[str, int]) -> list[int]:
        """Its shape, where each name stands for that size."""
        return [size if isinstance(size, int) else sizes[size] for size in self.shape]


class Signature(msgspec.Struct, frozen=True):
    """``parameters``: names in the order of positional arguments; ``constants``: what the graph was made for.

    Dimensions of one name are equal in all inputs. The output is one tensor, or several by name or number.
    """

    inputs: tuple[Argument, ...]
    outputs: tuple[str, ...]
    ranges: dict[str, Range]
    parameters: tuple[str, ...] = ()
    constants: dict[str, Constant] = {}
    returns: Literal["tensor", "tuple", "mapping"] = "tensor"

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Tensor, ...]:
        """The tensors of a call in the order of ``inputs``. Raises UsageError for what the program does not take."""
        if len(args) > len(self.parameters):
            raise UsageError(
                f"{len(args)} arguments were given, and the program takes {', '.join(self.parameters)}",
                "leave some out",
            )
        given = {**dict(zip(self.parameters, args, strict=False)), **kwargs}
        expected = {argument.name for argument in self.inputs} | self.constants.keys()
        for name in sorted(given.keys() - expected):
            if given[name] is not None:
                raise UsageError(
                    f"the program was exported without {name!r}", f"export it with {name!r}, or call it without"
                )
        for name, value in self.constants.items():
            if name in given and given[name] != value:
                raise UsageError(
                    f"the program was exported for {name}={value!r}, and is called with {given[name]!r}",
                    "export it for this value, too",
                )
        missing = [argument.name for argument in self.inputs if not isinstance(given.get(argument.name), Tensor)]
        if missing:
            raise UsageError(f"the input {missing[0]!r} is missing, or no tensor", "call it as the model was exported")
        tensors = tuple(given[argument.name] for argument in self.inputs)
        self.check(tensors)
        return tensors

    def check(self, tensors: tuple[Tensor, ...]) -> None:
        """Raises UsageError for a dtype or a shape that the program was not exported for."""
        sizes: dict[str, tuple[int, str]] = {}
        for argument, tensor in zip(self.inputs, tensors, strict=True):
            for what in self._wrong(argument, tensor, sizes):
                raise UsageError(what, "call it within what it was exported for, or export it again with such inputs")

    def _wrong(self, argument: Argument, tensor: Tensor, sizes: dict[str, tuple[int, str]]) -> Iterator[str]:
        name, dtype = argument.name, dtype_name(tensor.dtype)
        if dtype != argument.dtype:
            yield f"the input {name!r} is {dtype}, and the program takes {argument.dtype}"
        if tensor.dim() != len(argument.shape):
            yield f"the input {name!r} has {tensor.dim()} dimensions, and the program takes {len(argument.shape)}"
        for size, wanted in zip(tensor.shape, argument.shape, strict=False):
            if isinstance(wanted, int):
                if size != wanted:
                    shape = ", ".join(map(str, argument.shape))
                    yield f"the input {name!r} has the shape {tuple(tensor.shape)}, and the program takes ({shape})"
                continue
            if size not in self.ranges[wanted]:
                yield f"the {wanted} of {name!r} is {size}, and the program takes {self.ranges[wanted]}"
            before, other = sizes.setdefault(wanted, (size, name))
            if before != size:
                yield f"the {wanted} of {name!r} is {size}, and that of {other!r} is {before}"

    def sizes(self, tensors: Sequence[Tensor]) -> dict[str, int]:
        """What each dimension that may change is in these inputs, by its name."""
        return {
            name: size
            for argument, tensor in zip(self.inputs, tensors, strict=True)
            for name, size in zip(argument.shape, tensor.shape, strict=True)
            if isinstance(name, str)
        }

    def output(self, tensors: tuple[Tensor, ...]) -> Any:
        """What the module would return: a tensor, a tuple, or a mapping whose items are attributes, too."""
        if self.returns == "tensor":
            return tensors[0]
        return tensors if self.returns == "tuple" else Outputs(zip(self.outputs, tensors, strict=True))


class Outputs(dict[str, Tensor]):
    """Tensors by name, which are attributes as well: what callers of a Hugging Face model expect."""

    def __getattr__(self, name: str) -> Tensor:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None
