"""Layers that compute on int8: plain tensors as buffers, no quantized dtypes.

y = scale_x * scale_w * (q - zero) W + b, where the product q W is an exact integer and the term with
the zero needs only the sums of W's columns, which are known beforehand.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perfsuite.techniques.quantization.grid import Rows, affine_rows, to_grid
from perfsuite.techniques.quantization.kernels import int8_matmul
from perfsuite.techniques.quantization.sharing import SharedInput

Quantized = tuple[Tensor, Tensor]
_CHUNK_BYTES = 2**20  # of results at a time: larger temporaries leave the cache, and cost page faults at each call


class Int8Linear(nn.Module):
    """A linear layer on int8 weights; activations are quantized on the fly.

    Shapes: weight (O, I) int8, scale (O,), bias (O,) or None. ``per_token``: one scale for each row
    of activations, so that a row's result does not depend on the other rows; else one for all.
    """

    weight: Tensor
    scale: Tensor
    sums: Tensor  # (O,): the integer weights added up over I; not stored, it follows from them

    def __init__(self, quantized: Quantized, bias: nn.Parameter | None, *, per_token: bool = True) -> None:
        super().__init__()
        weight, scale = quantized
        self.out_features, self.in_features = weight.shape
        self.per_token = per_token
        self.sharing: SharedInput | None = None  # where several layers read one input
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale.flatten().clone())  # weights may be tied, scales are not
        self.bias = bias
        self.register_buffer("sums", torch.empty(0), persistent=False)
        self._derive()

    def forward(self, input: Tensor) -> Tensor:
        """(..., I) to (..., O), in the dtype of ``input``."""
        rows = self._rows(input) if self.sharing is None else self.sharing.rows(input, self._rows)
        return self._product(rows).view(*input.shape[:-1], self.out_features).to(input.dtype)

    def quantize(self, x: Tensor) -> Rows:
        """(N, I) floats to the grid."""
        return affine_rows(x, per_token=self.per_token)

    def finish(self, total: Tensor, rows: Rows, out: Tensor | None = None) -> Tensor:
        """Integer sums (N, O) to floats."""
        scale = _wide(self.scale)
        sums = self.sums * scale  # (O,)
        offset = (rows.scale * rows.zero).flatten().neg_()  # (N,)
        if self.bias is None:
            y = torch.outer(offset, sums, out=out)
        else:
            y = torch.addr(self.bias.to(scale.dtype), offset, sums, out=out)
        return y.addcmul_(total * scale, rows.scale)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}, per_token={self.per_token}"

    def _rows(self, x: Tensor) -> Rows:
        return self.quantize(_wide(x.reshape(-1, self.in_features)))

    def _product(self, rows: Rows) -> Tensor:
        step = max(64, _CHUNK_BYTES // (4 * self.out_features))
        number = rows.q.shape[0]
        if torch.compiler.is_compiling() or torch.is_grad_enabled() or number <= 2 * step:
            return self.finish(int8_matmul(rows.q, self.weight), rows)
        out = torch.empty(number, self.out_features, dtype=rows.scale.dtype, device=rows.q.device)
        for start in range(0, number, step):
            part = rows.part(start, start + step)
            self.finish(int8_matmul(part.q, self.weight), part, out[start : start + step])
        return out

    def _derive(self) -> None:
        self.sums = self.weight.sum(dim=1, dtype=torch.int32)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._derive()


class StaticInt8Linear(Int8Linear):
    """The same with activations on a grid that calibration has fixed: input_scale () and input_zero ()."""

    input_scale: Tensor
    input_zero: Tensor

    def __init__(self, quantized: Quantized, bias: nn.Parameter | None, grid: tuple[Tensor, Tensor]) -> None:
        super().__init__(quantized, bias)
        self.register_buffer("input_scale", grid[0])
        self.register_buffer("input_zero", grid[1])

    def quantize(self, x: Tensor) -> Rows:
        scale, zero = _wide(self.input_scale), _wide(self.input_zero)
        return Rows(to_grid(x, scale, zero), scale, zero)

    def finish(self, total: Tensor, rows: Rows, out: Tensor | None = None) -> Tensor:
        scale = _wide(self.scale)
        offset = self.sums * scale * -(rows.scale * rows.zero)  # (O,)
        if self.bias is not None:
            offset = offset + self.bias.to(scale.dtype)
        return torch.addcmul(offset, total, scale * rows.scale, out=out)


class Int8Embedding(nn.Module):
    """An embedding with int8 rows. Shapes: weight (V, D) int8, scale (V,)."""

    weight: Tensor
    scale: Tensor

    def __init__(self, quantized: Quantized, dtype: torch.dtype, padding_idx: int | None) -> None:
        super().__init__()
        weight, scale = quantized
        self.num_embeddings, self.embedding_dim = weight.shape
        self.padding_idx = padding_idx
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale.flatten().clone())  # weights may be tied, scales are not
        self.like: Tensor  # its dtype is the output's, and follows the model's
        self.register_buffer("like", torch.empty(0, dtype=dtype), persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        """(...) ids to (..., D). Raises IndexError for an id that does not exist, as torch does."""
        rows = F.embedding(input, self.weight)  # (..., D)
        return (rows * F.embedding(input, _wide(self.scale).unsqueeze(-1))).to(self.like.dtype)

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}"


def _wide(x: Tensor) -> Tensor:
    """In float32 at least: the integer sums do not fit into half precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
