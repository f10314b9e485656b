"""Parameters of modules of any class, stored in int8: the module's own code reads the floats that they stand for.

XLNet's and Funnel's attentions, experts that are one tensor, positions, and what weight norm keeps are no layers that
could be replaced. Nothing of such a module is, but for how these parameters are read.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from perfsuite._compat.torch import has_state_hooks, is_followed, own_buffers, own_parameters
from perfsuite.techniques.common import is_conv1d
from perfsuite.techniques.quantization.layers import Quantized, wide
from perfsuite.techniques.quantization.readable import Dequantized, QuantizedLayer
from perfsuite.techniques.quantization.steering import says_router

_PARTS = ("codes", "scale", "like")
_WIDE = 64  # values with one scale, at least: of fewer, scales are a good part of what is stored
_LARGE = 2**13  # values: of small ones nothing is saved that counts
_CONTAINERS = {nn.Module, nn.ModuleList, nn.ModuleDict, nn.Sequential, ParametrizationList}


class ReadsInt8:
    """Base of the classes that are made here. Of each name: buffers name_codes (rows, K) int8 and name_scale (rows,).

    A pickle finds one again by the class that it is made of, and the names.
    """

    computes_in_float = True
    int8_of: type[nn.Module]
    int8_names: tuple[str, ...]
    int8_shapes: dict[str, tuple[int, ...]]
    int8_place: str  # its name in the model

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _empty, (self.int8_of, self.int8_names), vars(self)


def can_be_stored(model: nn.Module, modules: Collection[str]) -> tuple[str, ...]:
    """Full names of the parameters that can, of modules with these names; none that two have, nor of torch's own.

    Nor of the model itself: it is loaded by its class.
    """
    owners = Counter(p for module in model.modules() for p in own_parameters(module).values() if p is not None)
    return tuple(
        f"{place}.{name}"
        for place, module in model.named_modules()
        if place and place in modules and _reads_by_itself(module) and not has_state_hooks(module)
        for name, parameter in own_parameters(module).items()
        if parameter is not None and owners[parameter] == 1 and _is_worth_it(parameter)
        if not any(hasattr(module, f"{name}_{part}") for part in _PARTS)
    )


def by_module(names: Iterable[str]) -> dict[str, list[str]]:
    """Full names of parameters, by the name of the module that has them."""
    found: dict[str, list[str]] = {}
    for full in names:
        place, _, name = full.rpartition(".")
        found.setdefault(place, []).append(name)
    return found


def store(model: nn.Module, names: Iterable[str], quantize: Callable[[Tensor], Quantized]) -> None:
    """Store the parameters of these full names, in place. ``quantize``: of a matrix, with a scale for each row."""
    for place, some in by_module(names).items():
        _read_from_int8(model.get_submodule(place), some, place, quantize)


def is_read_from_int8(module: nn.Module, name: str) -> bool:
    """Whether a module has codes in the place of that parameter."""
    return isinstance(module, ReadsInt8) and name in module.int8_names


def is_quantized(module: nn.Module) -> bool:
    """Whether a module reads a weight of its own from integers."""
    return isinstance(module, QuantizedLayer | ReadsInt8)


def is_same_kind(before: nn.Module, after: nn.Module) -> bool:
    """Whether they are of one type, but for how the second reads its parameters."""
    return type(before) is (after.int8_of if isinstance(after, ReadsInt8) else type(after))


def _read_from_int8(
    module: nn.Module, names: Collection[str], place: str, quantize: Callable[[Tensor], Quantized]
) -> None:
    """Let a module read these parameters of its own from int8."""
    shapes, parameters = {}, own_parameters(module)
    for name in names:
        parameter = parameters.pop(name)
        assert parameter is not None
        rows = quantize(parameter.reshape(-1, row_width(parameter)))
        shapes[name] = tuple(parameter.shape)
        module.register_buffer(f"{name}_codes", rows.codes)
        module.register_buffer(f"{name}_scale", rows.scale.flatten().clone())
        module.register_buffer(f"{name}_like", parameter.new_empty(0).detach(), persistent=False)
    original: Any = type(module)  # a class is hashable, whatever its instances are
    module.__class__ = _kind(original, tuple(names))
    vars(module).update(int8_shapes=shapes, int8_place=place)


def _reads_by_itself(module: nn.Module) -> bool:
    """Whether it is of a class of somebody's, which is not made of one of torch's layers; what steers stays exact."""
    kind = type(module)
    bases = {base for base in kind.__mro__ if base.__module__.startswith("torch.nn.")}
    is_its_own = bases <= _CONTAINERS and (kind not in bases or kind is ParametrizationList)
    return is_its_own and not is_conv1d(module) and not says_router(kind.__name__)


def _is_worth_it(parameter: Tensor) -> bool:
    if parameter.dim() < 2 or not parameter.is_floating_point() or parameter.numel() < _LARGE:
        return False
    return row_width(parameter) >= _WIDE and parameter.numel() > max(parameter.shape)


def row_width(parameter: Tensor) -> int:
    """How many values have one scale: those of the last dimensions, as few as are enough, and never all."""
    for dim in range(parameter.dim() - 1, 0, -1):
        if (width := math.prod(parameter.shape[dim:])) >= _WIDE:
            return width
    return parameter.shape[-1]


@functools.cache
def _kind(original: Any, names: tuple[str, ...]) -> Any:
    read = {name: property(functools.partial(_read, name=name)) for name in names}
    return type(f"Int8{original.__name__}", (ReadsInt8, original), {"int8_of": original, "int8_names": names, **read})


def _empty(original: type[nn.Module], names: tuple[str, ...]) -> Any:
    key: Any = original
    kind = _kind(key, names)
    return kind.__new__(kind)


def _read(module: Any, *, name: str) -> Tensor:
    """The parameter of that name. Raises TechniqueError for who writes to it."""
    buffers = own_buffers(module)
    codes, scale, like = (buffers[f"{name}_{part}"] for part in _PARTS)
    assert codes is not None
    assert scale is not None
    assert like is not None
    shape, dtype = module.int8_shapes[name], like.dtype

    def floats(codes: Tensor, scale: Tensor, shape: tuple[int, ...]) -> Tensor:
        factor = wide(scale).unsqueeze(-1)
        return codes.to(factor.dtype, copy=True).mul_(factor).to(dtype).view(shape)

    def part(number: int) -> Tensor:
        """At this place of the first dimension, without what is at others."""
        of_codes, of_scale = (values.unflatten(0, (shape[0], -1))[number] for values in (codes, scale))
        return floats(of_codes, of_scale, shape[1:])

    def whole() -> Tensor:
        return floats(codes, scale, shape)

    if torch.compiler.is_compiling() or is_followed():  # who writes a graph down wants to see operators
        return whole()
    weight = Dequantized.of(shape, dtype, codes.device, whole)
    weight.part_of, weight.place = part, module.int8_place
    return weight
