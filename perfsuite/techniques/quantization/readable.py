"""What a quantized layer shows as its ``weight``: the floats that its codes stand for, made when somebody reads them.

Models read the weights of their layers: its dtype (T5, three times in each block), rows of it, its transpose.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, MutableMapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perfsuite._compat.torch import is_followed
from perfsuite.errors import TechniqueError

# What a tensor says of itself without its values: what stands in for them says the same.
_WITHOUT_VALUES = {
    "dtype", "device", "shape", "size", "dim", "ndim", "numel", "nelement", "__len__", "element_size", "itemsize",
    "nbytes", "layout", "is_floating_point", "is_complex", "is_cpu", "is_cuda", "is_mps", "is_xpu", "is_meta",
    "is_sparse", "is_quantized", "is_inference", "is_leaf", "requires_grad", "grad", "grad_fn", "untyped_storage",
    "data_ptr", "_version", "__class__", "__hash__",
}  # fmt: skip
# What may give another look at the same memory. What is written to it would have to reach the weight, too.
_VIEWS = {
    "data", "detach", "t", "T", "mT", "H", "transpose", "permute", "swapaxes", "movedim", "view", "view_as",
    "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "expand", "expand_as", "narrow", "select",
    "diagonal", "__getitem__",
}  # fmt: skip
_IN_PLACE = {
    "__iadd__", "__isub__", "__imul__", "__idiv__", "__itruediv__", "__ifloordiv__", "__imod__", "__ipow__",
    "__iand__", "__ior__", "__ixor__", "__ilshift__", "__irshift__", "__setitem__", "__delitem__",
}  # fmt: skip


class Dequantized(Tensor):
    """A weight in its shape, dtype and device, whose values are made anew by each operator that reads them.

    Nothing is kept, so that it costs no memory. It is read only: raises TechniqueError for what would write to it.
    """

    made_by: Callable[[], Tensor]
    rows_of: Callable[[Tensor], Tensor] | None = None  # where they can be made without the others
    part_of: Callable[[int], Tensor] | None = None  # so can what is at one place of the first dimension
    place = ""  # the name of the layer in the model

    @staticmethod
    def of(
        shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, values: Callable[[], Tensor]
    ) -> Dequantized:
        """Of values that are made by a function."""
        # One element repeated by strides of 0. It is NaN, so that who reads it past torch cannot take it for a weight.
        stand_in = torch.full((), torch.nan, dtype=dtype, device=device).expand(shape)
        return _as_weight(stand_in, values)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = _name_of(func)
        if _writes(name, args, kwargs):
            raise _read_only(f"{name!r} writes to the weight of", _place_in(args, kwargs))
        if func is F.embedding and (found := _looked_up(args, kwargs)) is not None:
            return found
        of_stand_in: Any = super().__torch_function__
        if name in _WITHOUT_VALUES:
            return of_stand_in(func, types, args, kwargs)
        if name in _VIEWS and isinstance(args[0], cls):
            return _viewed(of_stand_in(func, types, args, kwargs), _of_view(func, args, kwargs), args[0].place)
        return _called(func, args, kwargs)


def _as_weight(stand_in: Tensor, values: Callable[[], Tensor], place: str = "") -> Dequantized:
    weight = stand_in.as_subclass(Dequantized)
    weight.made_by, weight.place = values, place
    return weight


def _read_only(what: str, place: str) -> TechniqueError:
    return TechniqueError(
        f"{what} {repr(place) if place else 'a quantized layer'}, which is made of integers at each reading",
        f"leave it in float: exclude=({place!r},)" if place else "write to the model before it is quantized",
    )


def _place_in(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    weights = (value for value in (*args, *kwargs.values()) if isinstance(value, Dequantized))
    return next(weights).place


def _name_of(func: Any) -> str:
    """The name of a function of torch; of a getter or setter the attribute's, with "=" behind that of a setter."""
    name = str(func.__name__)
    if name in ("__get__", "__set__", "__delete__"):
        return str(func.__self__.__name__) + ("" if name == "__get__" else "=")
    return name


def _writes(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    if isinstance(kwargs.get("out"), Dequantized):
        return True
    in_place = name in _IN_PLACE or name.endswith("=") or (name.endswith("_") and not name.endswith("__"))
    return in_place and bool(args) and isinstance(args[0], Dequantized)


def _looked_up(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """The rows that ``F.embedding`` asks for, where there is a short way to them."""
    given = dict(zip(("input", "weight", "padding_idx", "max_norm"), args, strict=False)) | kwargs
    rows_of = getattr(given["weight"], "rows_of", None)
    return None if rows_of is None or given.get("max_norm") is not None else rows_of(given["input"])


def _viewed(seen: Any, values: Callable[[], Any], place: str) -> Any:
    """What a view of the stand-in is: one of the weight, where it looks at the same memory; else values.

    Indexing by numbers copies, and so does a reshape that must. Who writes to a copy does no harm.
    """
    if seen.numel() > 1 and seen.untyped_storage().nbytes() == seen.element_size():
        return _as_weight(seen, values, place)
    return values()


def _of_view(func: Any, args: Any, kwargs: Any) -> Callable[[], Any]:
    """Who makes the values of a view: of one place of the first dimension not all of the weight, where that can be."""
    part_of = getattr(args[0], "part_of", None)
    if part_of is not None and _name_of(func) == "__getitem__" and _is_number(args[1]):
        return lambda: part_of(int(args[1]))
    return lambda: _called(func, args, kwargs)


def _is_number(index: Any) -> bool:
    is_scalar = isinstance(index, Tensor) and index.dim() == 0 and index.dtype in (torch.int64, torch.int32)
    return type(index) is int or is_scalar


def _called(func: Any, args: Any, kwargs: Any) -> Any:
    return func(*_with_values(args), **_with_values(kwargs))


def _with_values(value: Any) -> Any:
    if isinstance(value, Dequantized):
        return value.made_by()
    if isinstance(value, list | tuple) and not isinstance(value, torch.Size):
        made = [_with_values(item) for item in value]
        return type(value)(*made) if hasattr(value, "_fields") else type(value)(made)
    return {key: _with_values(item) for key, item in value.items()} if isinstance(value, dict) else value


class QuantizedLayer(nn.Module):
    """Base of layers on integers: their ``weight`` is that of the layer in whose place they are, less what was rounded.

    A subclass calls ``hold``. It may have ``rows_of(ids)``, where some rows can be made without the others.
    """

    codes: Tensor
    like: Tensor
    place = ""  # its name in the model
    is_turned = False  # whether the weight is shown as (I, O), as Hugging Face's Conv1D has it

    def hold(self, codes: Tensor, dtype: torch.dtype) -> None:
        """Take the codes, and the dtype of the weight, which follows the model's."""
        self.register_buffer("codes", codes)
        self.register_buffer("like", torch.empty(0, dtype=dtype, device=codes.device), persistent=False)
        before_loading: Any = self.register_load_state_dict_pre_hook  # torch gives it no types
        before_loading(name_codes)

    @property
    @abstractmethod
    def weight_shape(self) -> tuple[int, ...]:
        """(O, I), or (V, D) of an embedding."""

    @abstractmethod
    def dequantized(self, dtype: torch.dtype) -> Tensor:
        """The weight in a dtype, made of the codes."""

    @property
    def weight(self) -> Tensor:
        """The weight, for who reads it. Raises TechniqueError for who writes to it."""
        if torch.compiler.is_compiling() or is_followed():  # who writes a graph down wants to see operators
            return self._shown()
        shape = self.weight_shape[::-1] if self.is_turned else self.weight_shape
        weight = Dequantized.of(shape, self.like.dtype, self.codes.device, self._shown)
        weight.place = self.place
        weight.rows_of = None if self.is_turned else getattr(self, "rows_of", None)
        return weight

    @weight.setter
    def weight(self, value: Any) -> None:
        raise _read_only("a value is set as the weight of", self.place)

    def _shown(self) -> Tensor:
        weight = self.dequantized(self.like.dtype)
        return weight.t() if self.is_turned else weight


def name_codes(layer: nn.Module, state: MutableMapping[str, Any], prefix: str, *rest: Any) -> None:
    """Integers that were saved under the name "weight", as they were at first, get the name "codes"."""
    saved = state.get(f"{prefix}weight")
    if saved is not None and not saved.is_floating_point():
        state[f"{prefix}codes"] = state.pop(f"{prefix}weight")
