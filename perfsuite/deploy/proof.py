"""That an exported program answers as its model does, over shapes that it was not exported with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from perfsuite.errors import NonFiniteError, TechniqueError
from perfsuite.export.signature import Signature
from perfsuite.export.sizes import tiled
from perfsuite.measure.outputs import check_output, fidelity
from perfsuite.protocols import Inputs, Program
from perfsuite.techniques.calibrating import in_eval_mode
from perfsuite.techniques.common import main_output
from perfsuite.techniques.quantization.layers import Int8Linear
from perfsuite.techniques.quantization.packing import PackedLinear

FLOAT_DB = 60.0  # of float32, summed in another order, 110 and more are usual; half precision has 60
INTEGER_DB = 10.0  # integers round to other neighbours after an error of 1e-7, and layers add up what follows
_ODD = 3


def prove(model: nn.Module, program: Program, signature: Signature, inputs: Inputs) -> None:
    """Raises TechniqueError where the answers differ, NonFiniteError where one holds NaN or infinity.

    Shapes: the example's, the smallest, and an odd one.
    """
    floor = INTEGER_DB if any(isinstance(m, Int8Linear | PackedLinear) for m in model.modules()) else FLOAT_DB
    with in_eval_mode(model), torch.no_grad():
        for sizes, case in drawn(signature, inputs):
            expected = main_output(model(*case.args, **case.kwargs))
            _compare(expected, main_output(program.call(*case.args, **case.kwargs)), sizes, floor)


def drawn(signature: Signature, inputs: Inputs) -> Iterator[tuple[Mapping[str, int], Inputs]]:
    """Inputs of the declared ranges, made of the example's own values."""
    example = signature.sizes(signature.bind(inputs.args, inputs.kwargs))
    yield example, inputs
    smallest = {name: signature.ranges[name].low for name in example}
    odd = {name: _ODD if _ODD in signature.ranges[name] else size for name, size in example.items()}
    for sizes in (smallest, odd):
        yield sizes, _resized(signature, inputs, sizes)


def _resized(signature: Signature, inputs: Inputs, sizes: Mapping[str, int]) -> Inputs:
    shapes = {argument.name: argument.resolved(sizes) for argument in signature.inputs}

    def resize(name: str, value: Any) -> Any:
        return tiled(value, shapes[name]) if isinstance(value, Tensor) else value

    args = tuple(resize(name, value) for name, value in zip(signature.parameters, inputs.args, strict=False))
    return Inputs(args, {name: resize(name, value) for name, value in inputs.kwargs.items()})


def _compare(expected: Tensor, found: Tensor, sizes: Mapping[str, int], floor: float) -> None:
    at = ", ".join(f"{name} {size}" for name, size in sizes.items()) or "the example's shape"
    if found.shape != expected.shape:
        raise TechniqueError(
            f"at {at} the program's output has the shape {tuple(found.shape)}, the model's {tuple(expected.shape)}",
            "the model's shapes depend on more than it shows: export it with an example of that shape",
        )
    if bool(found.isnan().any()) and not bool(expected.isnan().any()):
        raise NonFiniteError(f"at {at} the program's output has NaN in it, the model's has not", "gate it in eager")
    ratio = fidelity(check_output(expected, f"the model at {at}"), check_output(found, f"the program at {at}"))["sqnr"]
    if not ratio >= floor:
        raise TechniqueError(
            f"at {at} the program's output is {ratio:.1f} dB from the model's, where at least {floor:g} are expected",
            "choose another technique or runtime for this model, and report the layer if you find it",
        )
