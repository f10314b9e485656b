"""Half precision: every floating-point weight cast, inputs cast on the way in, outputs on the way back."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from perfsuite.errors import TechniqueError

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def cast(model: nn.Module, name: str) -> nn.Module:
    """Cast the model in place to "bf16" or "fp16" and return it; its callers keep their dtype.

    Raises TechniqueError for a weight that the dtype cannot hold (fp16 ends at 65504) and for a
    model without floating-point weights.
    """
    dtype = DTYPES[name]
    outer = next((p.dtype for p in model.parameters() if p.is_floating_point()), None)
    if outer is None:
        raise TechniqueError(f"{name}: the model has no floating-point parameter to cast", "choose another technique")
    largest = torch.finfo(dtype).max
    for tensor_name, tensor in itertools.chain(model.named_parameters(), model.named_buffers()):
        if tensor.is_floating_point() and bool((tensor.isfinite() & (tensor.abs() > largest)).any()):
            raise TechniqueError(
                f"{name}: {tensor_name!r} holds values beyond {largest:g}, which would become infinite",
                "use bf16, which has the range of fp32",
            )
    model.to(dtype)
    model.register_forward_pre_hook(CastInputs(dtype), with_kwargs=True)
    model.register_forward_hook(CastOutput(outer))
    return model


class CastInputs:
    """A forward pre-hook; a class, so that deep copies carry it along."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        return cast_floats(args, self.dtype), cast_floats(kwargs, self.dtype)


class CastOutput:
    """A forward hook; a class, so that deep copies carry it along."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        return cast_floats(output, self.dtype)


def cast_floats(value: Any, dtype: torch.dtype) -> Any:
    """Every floating-point tensor inside nested tuples, lists and mappings, cast; the rest as it is."""
    if isinstance(value, Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    if isinstance(value, dict):  # also Hugging Face's ModelOutput, whose constructor takes keywords
        rebuild: Callable[..., Any] = type(value)
        return rebuild(**{key: cast_floats(item, dtype) for key, item in value.items()})
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(cast_floats(item, dtype) for item in value))
    if isinstance(value, tuple | list):
        return type(value)(cast_floats(item, dtype) for item in value)
    return value
