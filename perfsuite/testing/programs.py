"""What the laws of runtimes have in common: a program while it is asked, and how near its answers have to be."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from perfsuite.protocols import Inputs, Program, Runtime
from perfsuite.techniques.common import main_output
from perfsuite.testing.contract import run
from perfsuite.testing.strategies import Sample

_FACTOR = 3.0  # of the error that eager torch makes itself
_FLOOR = {torch.float64: 1e-11, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 1e-1}  # where it makes none


@contextmanager
def loaded(runtime: Runtime, sample: Sample) -> Iterator[Program]:
    """The program of a sample, in a folder that is there for as long as it is."""
    with tempfile.TemporaryDirectory() as folder:
        yield runtime.load(sample.model, sample.inputs, Path(folder))


def answer(program: Program, inputs: Inputs) -> Any:
    with torch.no_grad():
        return program.call(*inputs.args, **inputs.kwargs)


def check_answer(found: Any, model: nn.Module, inputs: Inputs) -> None:
    """Against the module in float64: the error is not much larger than that of the module itself.

    Root mean squares, as everything that runs models accepts them: sums may be in another order.
    """
    expected, own = main_output(_wide(model, inputs)), run(model, inputs)
    found = main_output(found)
    assert found.shape == own.shape, f"the output has the shape {tuple(found.shape)}, the module's {tuple(own.shape)}"
    assert found.dtype == own.dtype, f"the output is {found.dtype}, the module's {own.dtype}"
    if not own.is_floating_point():
        assert torch.equal(found, own), "the output is not the module's"
        return
    error, bound = _rms(found - expected), _FACTOR * _rms(own - expected) + _FLOOR[own.dtype] * _rms(expected)
    assert error <= bound, f"the output is {error:.2g} (rms) away from the module's in float64; {bound:.2g} is allowed"


def _wide(model: nn.Module, inputs: Inputs) -> Any:
    """What the module gives in float64."""
    args = tuple(map(_double, inputs.args))
    kwargs = {name: _double(value) for name, value in inputs.kwargs.items()}
    with torch.no_grad():
        return copy.deepcopy(model).double()(*args, **kwargs)


def _double(value: Any) -> Any:
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value


def _rms(x: Tensor) -> float:
    return float(x.double().square().mean().sqrt())


def with_tensors(inputs: Inputs, tensors: dict[str | int, Tensor]) -> Inputs:
    """The same call with other tensors, by their place or name."""
    args = tuple(tensors.get(place, value) for place, value in enumerate(inputs.args))
    return replace(inputs, args=args, kwargs={name: tensors.get(name, value) for name, value in inputs.kwargs.items()})


def tensors_of(inputs: Inputs) -> dict[str | int, Tensor]:
    """The tensors of a call, by their place or name, in the order in which a signature has them."""
    pairs: list[tuple[str | int, Any]] = [*enumerate(inputs.args), *inputs.kwargs.items()]
    return {key: value for key, value in pairs if isinstance(value, Tensor)}
