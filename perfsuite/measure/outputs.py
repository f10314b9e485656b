"""What a call gives, made comparable, and how well it follows what another gives."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from perfsuite.errors import NonFiniteError, OutputError
from perfsuite.techniques.common import main_output
from perfsuite.techniques.comparing import ratio


def check_output(output: object, label: str) -> Tensor:
    """The main output, dense, in float64 on the CPU.

    Raises NonFiniteError, naming the case, if it holds NaN or infinity; OutputError if there is nothing to compare.
    """
    tensor = _dense(main_output(output).detach(), label)
    if not bool(torch.isfinite(tensor).all()):
        raise NonFiniteError(
            f"the output of {label} has NaN or infinite values",
            "check the weights and the inputs, or use bf16 for fp16",
        )
    return tensor.double()


def _dense(tensor: Tensor, label: str) -> Tensor:
    try:
        tensor = tensor.dequantize() if tensor.is_quantized else tensor
        tensor = tensor.cpu() if tensor.layout is torch.strided else tensor.to_dense().cpu()
        return torch.view_as_real(tensor) if tensor.is_complex() else tensor
    except (RuntimeError, NotImplementedError) as error:
        raise OutputError(
            f"the output of {label}, a {tensor.layout} tensor of {tensor.dtype} on {tensor.device}, cannot be compared",
            "return a dense tensor of numbers",
        ) from error


def fidelity(original: Tensor, candidate: Tensor) -> dict[str, float]:
    """How well a candidate's output (..., C) follows the original's.

    ``sqnr``: signal to quantization noise, in dB, capped at 300 for equal outputs, minus infinity where numbers became
    NaN. ``agreement``: the fraction of rows whose largest entry is the same one. Raises OutputError for other shapes.
    """
    if original.shape != candidate.shape:
        raise OutputError(
            f"the output has shape {tuple(candidate.shape)}, the original's {tuple(original.shape)}",
            "compare forms of one model",
        )
    agreement = float((original.argmax(-1) == candidate.argmax(-1)).double().mean())
    return {"sqnr": ratio(original, candidate), "agreement": agreement}


def fidelity_of_all(original: Mapping[str, Tensor], candidate: Mapping[str, Tensor]) -> dict[str, float]:
    """The least that any of several outputs shows. Raises OutputError where they have other names or shapes."""
    if original.keys() != candidate.keys():
        raise OutputError(
            f"the outputs are {', '.join(candidate)}, the original's {', '.join(original)}",
            "compare forms of one model",
        )
    found = [fidelity(original[name], candidate[name]) for name in original]
    return {name: min(each[name] for each in found) for name in found[0]} if found else {}
