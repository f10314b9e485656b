"""Layers that compute on int8: plain tensors as buffers, no quantized dtypes.

y = scale_x * scale_w * (q - zero) W + b, where the product q W is an exact integer and the term with
the zero needs only the sums of W's columns, which are known beforehand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perfsuite._compat.torch import own_buffers, own_parameters, unwatched
from perfsuite.techniques.quantization.grid import Rows
from perfsuite.techniques.quantization.linear import (
    Operands,
    affine_linear,
    affine_rows,
    fixed_rows,
    prepared,
    row_sums,
)
from perfsuite.techniques.quantization.preparing import Prepared, can_prepare
from perfsuite.techniques.quantization.readable import QuantizedLayer


class Quantized(NamedTuple):
    """A weight on the grid: codes (O, I) int8 and scale (O, 1); the dtype of what it was made of."""

    codes: Tensor
    scale: Tensor
    dtype: torch.dtype = torch.float32


class Sharing(Protocol):
    """What layers that read one input have in common (sharing.py)."""

    def output(self, layer: Int8Linear, x: Tensor) -> Tensor: ...


class OnRows(QuantizedLayer):
    """A layer on int8 rows with a scale each: codes (O, I) int8, scale (O,)."""

    scale: Tensor

    def __init__(self, quantized: Quantized) -> None:
        super().__init__()
        self.hold_rows(quantized)

    def hold_rows(self, quantized: Quantized) -> None:
        """Take what it computes with."""
        self.hold(quantized.codes, quantized.dtype)
        own = quantized.scale.flatten().clone(
            memory_format=torch.contiguous_format
        )  # codes may be tied, scales are not
        self.register_buffer("scale", own)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return self.codes.shape

    def dequantized(self, dtype: torch.dtype) -> Tensor:
        """(O, I): each row of codes times its scale."""
        scale = wide(self.scale).unsqueeze(-1)
        return self.codes.to(scale.dtype, copy=True).mul_(scale).to(dtype)

    def rows_of(self, ids: Tensor) -> Tensor:
        """(...) ids to (..., I). Raises IndexError for an id that does not exist, as torch's embedding does."""
        scale = F.embedding(ids, wide(self.scale).unsqueeze(-1))  # (..., 1), and the check of the ids
        return (self.codes[ids] * scale).to(self.like.dtype)  # torch's embedding is slow for int8 rows


class Int8Linear(OnRows):
    """A linear layer on int8 weights; activations are quantized on the fly.

    Shapes: codes (O, I) int8, scale (O,), bias (O,) or None. ``per_token``: one scale for each row
    of activations, so that a row's result does not depend on the other rows; else one for all.
    """

    computed_with: ClassVar[tuple[str, ...]] = ("codes", "scale")  # buffers

    def __init__(self, quantized: Quantized, bias: nn.Parameter | None, *, per_token: bool = True) -> None:
        super().__init__(quantized)
        self.out_features, self.in_features = quantized.codes.shape
        self.per_token = per_token
        self._prepared: Prepared[Operands] = Prepared()
        self.sharing: Sharing | None = None  # where several layers read one input
        self.bias = bias

    def forward(self, input: Tensor) -> Tensor:
        """(..., I) to (..., O), in the dtype of ``input``."""
        if self.sharing is not None:
            y = self.sharing.output(self, input)
        else:
            y = affine_linear(self.rows(input), self.operands())
        y = y.view(*input.shape[:-1], self.out_features)
        return y if y.dtype == input.dtype else y.to(input.dtype)

    def rows(self, x: Tensor) -> Rows:
        """(..., I) floats on the grid: (N, I)."""
        return self.quantize(wide(x.reshape(-1, self.in_features)).contiguous())

    def quantize(self, x: Tensor) -> Rows:
        """(N, I) floats to the grid."""
        return affine_rows(x, per_token=self.per_token)

    def grids_as(self, other: Int8Linear) -> bool:
        """Whether one input is put on the same grid by both."""
        return (self.in_features, self.per_token) == (other.in_features, other.per_token)

    def operands(self) -> Operands:
        """What the product needs, in the fastest form that there is here and now."""
        return operands_of((self,), self._prepared) if can_prepare(self) else side_by_side((self,))

    def tensors(self) -> list[Tensor]:
        """All that it computes with."""
        buffers, bias = own_buffers(self), own_parameters(self).get("bias")
        found = [*map(buffers.get, self.computed_with), bias]
        return [tensor for tensor in found if tensor is not None]

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}, per_token={self.per_token}"


Grid = tuple[Tensor, Tensor]
"""Scale () and zero () of inputs."""


class OnFixedGrid(nn.Module):
    """A layer whose inputs are on a grid that calibration has fixed: input_scale () and input_zero ()."""

    input_scale: Tensor
    input_zero: Tensor

    def hold_grid(self, grid: Grid) -> None:
        self.register_buffer("input_scale", grid[0])
        self.register_buffer("input_zero", grid[1])

    def quantize(self, x: Tensor) -> Rows:
        """(N, I) floats to the grid."""
        return fixed_rows(x, wide(self.input_scale), wide(self.input_zero))


class StaticInt8Linear(OnFixedGrid, Int8Linear):
    """The same with activations on a grid that calibration has fixed."""

    computed_with = (*Int8Linear.computed_with, "input_scale", "input_zero")

    def __init__(self, quantized: Quantized, bias: nn.Parameter | None, grid: Grid) -> None:
        super().__init__(quantized, bias)
        self.hold_grid(grid)

    def grids_as(self, other: Int8Linear) -> bool:
        return (
            isinstance(other, StaticInt8Linear)
            and super().grids_as(other)
            and torch.equal(self.input_scale, other.input_scale)
            and torch.equal(self.input_zero, other.input_zero)
        )


class Int8Embedding(OnRows):
    """An embedding with int8 rows. Shapes: codes (V, D) int8, scale (V,)."""

    def __init__(self, quantized: Quantized, padding_idx: int | None) -> None:
        super().__init__(quantized)
        self.num_embeddings, self.embedding_dim = quantized.codes.shape
        self.padding_idx = padding_idx

    def forward(self, input: Tensor) -> Tensor:
        """(...) ids to (..., D). Raises IndexError for an id that does not exist, as torch does."""
        return self.rows_of(input)

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}"


def operands_of(layers: Sequence[Int8Linear], kept: Prepared[Operands]) -> Operands:
    """Those of layers side by side, in the fastest form that there is here and now."""

    def joined() -> Operands:
        return side_by_side(layers)

    found = kept.of([tensor for layer in layers for tensor in layer.tensors()], joined, prepared)
    return joined() if found is None else found


def side_by_side(layers: Sequence[Int8Linear]) -> Operands:
    """The operands of layers that read the same rows, as if they were one layer."""
    scale = _joined([wide(layer.scale) for layer in layers])
    weight = _joined([unwatched(layer.codes) for layer in layers])
    sums = row_sums(weight) * scale
    bias = _joined([_bias(layer, scale) for layer in layers])
    return Operands(weight, scale, sums, bias, one_grid=on_one_grid(layers))


def on_one_grid(layers: Sequence[Int8Linear]) -> bool:
    """Whether rows that the first has quantized are those of all."""
    return all(layer.grids_as(layers[0]) for layer in layers[1:])


def _bias(layer: Int8Linear, scale: Tensor) -> Tensor:
    return scale.new_zeros(layer.out_features) if layer.bias is None else layer.bias.to(scale.dtype)


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(tuple(tensors))


def wide(x: Tensor) -> Tensor:
    """In float32 at least: the integer sums do not fit into half precision."""
    if x.dtype == torch.float32:
        return x
    return x.to(torch.promote_types(x.dtype, torch.float32))
