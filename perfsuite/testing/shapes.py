"""The laws of a program that is called with other shapes than it was made with.

What a program takes, its ``call.signature`` says: ``inputs`` with a name, a dtype and dimensions (a number, or the name
of one that may change), and ``ranges`` by the names of dimensions (perfsuite.export.signature.Signature).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from perfsuite.errors import UsageError
from perfsuite.export.sizes import tiled
from perfsuite.protocols import Inputs, Program, Runtime
from perfsuite.testing.contract import run
from perfsuite.testing.programs import answer, check_answer, loaded, tensors_of, with_tensors
from perfsuite.testing.strategies import Sample

ShapeLaw = Callable[[Runtime, Sample], None]
_ODD, _MORE = 3, 4
_OTHER_DTYPE = {torch.float32: torch.float64, torch.int64: torch.int32}


def computes_at_every_size(runtime: Runtime, sample: Sample) -> None:
    """At the smallest size that is declared, that of the example, odd ones and larger ones, the answers are right."""
    with loaded(runtime, sample) as program:
        for sizes in _assignments(_signature(program), sample):
            inputs = _resized(_signature(program), sample.inputs, sizes)
            try:
                found = answer(program, inputs)
                check_answer(found, sample.model, inputs)
            except AssertionError as error:
                raise AssertionError(f"with {_described(sizes)}: {error}") from error


def refuses_what_was_not_declared(runtime: Runtime, sample: Sample) -> None:
    """Sizes out of range, other dtypes and other ranks raise UsageError: they are never answered."""
    with loaded(runtime, sample) as program:
        for why, inputs in _outside(_signature(program), sample.inputs):
            with pytest.raises(UsageError):
                answer(program, inputs)
                raise AssertionError(f"it answered {why}")


def keeps_what_may_change(runtime: Runtime, sample: Sample) -> None:
    """Batch and sequence that the module takes in another size are names in the signature, with room for it."""
    with loaded(runtime, sample) as program:
        signature = _signature(program)
        for axis, change in product((0, 1), (-1, 1)):
            inputs = _stretched(sample.inputs, axis, change)
            if inputs is not None and _takes(sample, inputs):
                _check_axis(signature, inputs, axis)


def _check_axis(signature: Any, inputs: Inputs, axis: int) -> None:
    for argument, tensor in zip(signature.inputs, tensors_of(inputs).values(), strict=True):
        if tensor.dim() > axis:
            name, size, which = argument.shape[axis], tensor.shape[axis], f"axis {axis} of {argument.name!r}"
            assert isinstance(name, str), f"{which} is always {name}, and the module takes {size}"
            assert size in signature.ranges[name], f"{which} is {signature.ranges[name]}, and the module takes {size}"


SHAPE_LAWS: tuple[ShapeLaw, ...] = (computes_at_every_size, refuses_what_was_not_declared, keeps_what_may_change)


def _signature(program: Program) -> Any:
    found = getattr(program.call, "signature", None)
    assert found is not None, "the program does not say what it takes: its call has no signature"
    return found


def _assignments(signature: Any, sample: Sample) -> Iterator[dict[str, int]]:
    """Sizes for each name: all of a kind at once, and the batch against all others."""
    example = _sizes(signature, sample.inputs)
    by_kind = [
        {name: signature.ranges[name].low for name in example},
        example,
        {name: _within(signature.ranges[name], _ODD + 2 * place) for place, name in enumerate(example)},
        {name: _within(signature.ranges[name], 2 * size + _MORE) for name, size in example.items()},
    ]
    yield from by_kind
    low, high = by_kind[0], by_kind[-1]
    for first in list(example)[:1]:
        yield {**high, first: low[first]}
        yield {**low, first: high[first]}


def _within(allowed: Any, wanted: int) -> int:
    """The size that is wanted, or the nearest smaller one that is allowed, or else the smallest."""
    return next((size for size in range(wanted, allowed.low, -1) if size in allowed), allowed.low)


def _sizes(signature: Any, inputs: Inputs) -> dict[str, int]:
    sizes: dict[str, int] = signature.sizes(tuple(tensors_of(inputs).values()))
    return sizes


def _resized(signature: Any, inputs: Inputs, sizes: Mapping[str, int]) -> Inputs:
    pairs = zip(signature.inputs, tensors_of(inputs).items(), strict=True)
    return with_tensors(
        inputs,
        {key: _filled(tensor, [sizes.get(name, name) for name in argument.shape]) for argument, (key, tensor) in pairs},
    )


def _filled(tensor: Tensor, shape: list[int]) -> Tensor:
    """Another shape, with elements of the same kind. A mask is repeated, so that no row of it hides everything."""
    if tensor.dtype == torch.bool or bool(((tensor == 0) | (tensor == 1) | tensor.isinf()).all()):
        return tiled(tensor, shape)
    generator = torch.Generator().manual_seed(sum(shape))
    return tensor.flatten()[torch.randint(0, tensor.numel(), shape, generator=generator)]


def _outside(signature: Any, inputs: Inputs) -> Iterator[tuple[str, Inputs]]:
    """Calls that were not declared, and what is wrong with each."""
    for argument, (key, tensor) in zip(signature.inputs, tensors_of(inputs).items(), strict=True):
        if other := _OTHER_DTYPE.get(tensor.dtype):
            yield f"{argument.name!r} in {other}", with_tensors(inputs, {key: tensor.to(other)})
        yield f"{argument.name!r} with one dimension more", with_tensors(inputs, {key: tensor[None]})
        for axis, size in enumerate(argument.shape):
            if isinstance(size, int):
                shape = [*tensor.shape[:axis], size + 1, *tensor.shape[axis + 1 :]]
                yield f"{argument.name!r} with {size + 1} in the place of {size}", _with(inputs, key, shape)
    example = _sizes(signature, inputs)
    for name, allowed in signature.ranges.items():
        beyond = [allowed.low - 1] + ([] if allowed.high is None else [allowed.high + 1])
        for size in [*beyond, *allowed.without]:
            yield f"a {name} of {size}", _resized(signature, inputs, {**example, name: size})


def _with(inputs: Inputs, key: str | int, shape: list[int]) -> Inputs:
    return with_tensors(inputs, {key: _filled(tensors_of(inputs)[key], shape)})


def _stretched(inputs: Inputs, axis: int, change: int) -> Inputs | None:
    """Longer or shorter along an axis, all tensors that have it; None where they do not agree on it."""
    tensors = {key: tensor for key, tensor in tensors_of(inputs).items() if tensor.dim() > axis}
    sizes = {tensor.shape[axis] for tensor in tensors.values()}
    if len(sizes) != 1 or sizes.pop() + change < 1:
        return None
    shapes = {
        key: [size + change if place == axis else size for place, size in enumerate(tensor.shape)]
        for key, tensor in tensors.items()
    }
    return with_tensors(inputs, {key: _filled(tensors[key], shape) for key, shape in shapes.items()})


def _takes(sample: Sample, inputs: Inputs) -> bool:
    try:
        run(sample.model, inputs)
    except Exception:  # whatever the module says of a shape that it does not take
        return False
    return True


def _described(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {size}" for name, size in sizes.items()) or "the sizes of the example"
