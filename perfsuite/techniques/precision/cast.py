"""Half precision: every floating-point weight cast, inputs cast on the way in, outputs on the way back."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from perfsuite.errors import TechniqueError
from perfsuite.techniques.casting import cast_tensors, dtypes_of_transformers, floats
from perfsuite.techniques.selection import selected

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def cast(model: nn.Module, name: str, keep_fp32: Sequence[str] = ()) -> nn.Module:
    """Cast the model in place to "bf16" or "fp16" and return it; its callers keep their dtype.

    Layers selected by ``keep_fp32`` stay in fp32: their inputs are cast to it, their outputs back. In models of
    transformers, what ``from_pretrained`` keeps in fp32 stays so, too (frequencies of rotary positions).
    Raises TechniqueError for a weight that the dtype cannot hold (fp16 ends at 65504) and for a
    model without floating-point weights.
    """
    dtype = DTYPES[name]
    outer = next((p.dtype for p in model.parameters() if p.is_floating_point()), None)
    if outer is None:
        raise TechniqueError(f"{name}: the model has no floating-point parameter to cast", "choose another technique")
    kept = _kept(model, keep_fp32)
    held = {id(t) for module in kept for t in (*module.parameters(), *module.buffers())}
    others = dtypes_of_transformers(model, dtype)

    def wanted(name: str, tensor: Tensor) -> torch.dtype:
        return tensor.dtype if id(tensor) in held else others.get(name, dtype)

    _check_range(model, name, wanted)
    cast_tensors(model, wanted)
    for module in kept:
        _cast_at_the_border(module, torch.float32, dtype)
    reference = next((name for name, p in model.named_parameters() if p.dtype == dtype and id(p) not in held), "")
    _cast_at_the_border(model, dtype, outer, reference)
    return model


def _kept(model: nn.Module, keep_fp32: Sequence[str]) -> list[nn.Module]:
    """The outermost of the selected modules."""
    if not keep_fp32:
        return []
    names = selected(model, keep_fp32, ())
    if "" in names:
        raise TechniqueError("keep_fp32 selects the whole model: nothing is left to cast", "name some of its layers")
    outermost = [name for name in names if name.rpartition(".")[0] not in names]
    return [model.get_submodule(name) for name in sorted(outermost)]


def _check_range(model: nn.Module, name: str, wanted: Callable[[str, Tensor], torch.dtype]) -> None:
    for tensor_name, tensor in floats(model):
        largest = torch.finfo(wanted(tensor_name, tensor)).max
        if bool((tensor.isfinite() & (tensor.abs() > largest)).any()):
            raise TechniqueError(
                f"{name}: {tensor_name!r} holds values beyond {largest:g}, which would become infinite",
                "use bf16, which has the range of fp32",
            )


def _cast_at_the_border(module: nn.Module, inside: torch.dtype, outside: torch.dtype, reference: str = "") -> None:
    module.register_forward_pre_hook(CastInputs(inside, reference), with_kwargs=True)
    module.register_forward_hook(CastOutput(outside))


class CastInputs:
    """A forward pre-hook; a class, so that deep copies carry it along.

    Casts to the dtype of the parameter named ``reference``, which the model may be moved to later; of a layer that was
    quantized since it is the dtype of the weight that its integers stand for.
    """

    def __init__(self, dtype: torch.dtype, reference: str = "") -> None:
        self.dtype = dtype
        self.reference = reference

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        dtype = _dtype_now(module, self.reference, self.dtype)
        return cast_floats(args, dtype), cast_floats(kwargs, dtype)


def _dtype_now(module: Any, reference: str, otherwise: torch.dtype) -> torch.dtype:
    """That of the tensor of this name; another technique may have left none, as where it has split an attention."""
    try:
        dtype: torch.dtype = operator.attrgetter(reference)(module).dtype
    except AttributeError:
        return otherwise
    return dtype


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
    if type(value) is dict:
        return {key: cast_floats(item, dtype) for key, item in value.items()}
    if isinstance(value, dict):  # Hugging Face's ModelOutput, whose constructor takes keywords
        rebuild: Callable[..., Any] = type(value)
        return rebuild(**{key: cast_floats(item, dtype) for key, item in value.items()})
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(cast_floats(item, dtype) for item in value))
    if isinstance(value, tuple | list):
        return type(value)(cast_floats(item, dtype) for item in value)
    return value
