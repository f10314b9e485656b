"""Convolutions that compute on int8: each place of the kernel is a row of a linear layer, on the grid of its example.

What is padded is padded as floats, before it is put on the grid: zeros are exact there, and no place is another case.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perfsuite._compat.torch import is_followed, own_buffers, own_parameters, unwatched
from perfsuite.techniques.common import owns_weight
from perfsuite.techniques.quantization import onednn
from perfsuite.techniques.quantization.grid import Rows
from perfsuite.techniques.quantization.kernels import convolves
from perfsuite.techniques.quantization.layers import Grid, OnFixedGrid, OnRows, Quantized, wide
from perfsuite.techniques.quantization.linear import Operands, affine_linear, affine_rows
from perfsuite.techniques.quantization.preparing import Prepared, can_prepare

PAYS = 512  # products for each output
_PLAIN = {nn.Conv1d: F.conv1d, nn.Conv2d: F.conv2d, nn.Conv3d: F.conv3d}


def pays_on_integers(module: Any) -> bool:
    """Whether it is one of torch's own whose outputs add up so many products that integers are the faster ones.

    Of few, as in groups, putting inputs on a grid takes longer than they do (docs/techniques.md).
    """
    is_plain = type(module) in _PLAIN and owns_weight(module) and module.weight.is_floating_point()
    return is_plain and module.groups == 1 and math.prod(module.weight.shape[1:]) >= PAYS


class Int8Convolution(OnRows):
    """In the place of a convolution: codes (O, I * kernel) int8, scale (O,), bias (O,) or None.

    ``per_example``: one scale for each example, so that its result does not depend on the others; else one for all.
    """

    computed_with: ClassVar[tuple[str, ...]] = ("codes", "scale")  # buffers

    def __init__(self, source: Any, quantized: Quantized, *, per_example: bool = True) -> None:
        super().__init__(quantized)
        self.kernel_shape = tuple(source.weight.shape)
        self.stride, self.dilation, self.per_example = source.stride, source.dilation, per_example
        self.call = _PLAIN[type(source)]
        self.pads = _pads(source)
        self.pad_mode = "constant" if source.padding_mode == "zeros" else source.padding_mode
        self._prepared: Prepared[onednn.PackedKernel] = Prepared()
        self.bias = source.bias

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """(O, I, ...)."""
        return self.kernel_shape

    def dequantized(self, dtype: torch.dtype) -> Tensor:
        """(O, I, ...)."""
        return super().dequantized(dtype).view(self.kernel_shape)

    def forward(self, input: Tensor) -> Tensor:
        """(N, I, ...) or (I, ...) to (N, O, ...) or (O, ...), in the dtype of ``input``."""
        if input.dim() == len(self.kernel_shape) - 1:
            return self.forward(input.unsqueeze(0)).squeeze(0)
        x = self.padded(input)
        if x.dim() != len(self.kernel_shape) or x.shape[1] != self.kernel_shape[1] or min(self._places(x)) < 1:
            weight = self.dequantized(x.dtype)
            return self.call(x, weight, self.bias, self.stride, 0, self.dilation)  # torch says what is wrong
        y = self._convolved(self.rows(x), x)
        return y if y.dtype == input.dtype else y.to(input.dtype)

    def padded(self, x: Tensor) -> Tensor:
        return F.pad(x, self.pads, self.pad_mode) if any(self.pads) else x

    def rows(self, x: Tensor) -> Rows:
        """(N, I, ...) floats on the grid: (N, all that an example has)."""
        return self.quantize(wide(x.flatten(1)).contiguous())

    def quantize(self, x: Tensor) -> Rows:
        """(N, all that an example has) floats to the grid."""
        return affine_rows(x, per_token=self.per_example)

    def _places(self, x: Tensor) -> tuple[int, ...]:
        """How many the kernel has in each direction, of what is padded."""
        sizes = zip(x.shape[2:], self.kernel_shape[2:], self.stride, self.dilation, strict=True)
        return tuple((size - step * (width - 1) - 1) // stride + 1 for size, width, stride, step in sizes)

    def _convolved(self, rows: Rows, x: Tensor) -> Tensor:
        """Rows of x (N, I, ...) to (N, O, ...), in float32 or wider."""
        kernel = self._kernel(rows)
        if kernel is None:
            return self._as_linear(rows, x)
        y = _on_each_grid(rows._replace(q=rows.unsigned().view(x.shape)), kernel)
        return y if rows.lost is None else y.add_(rows.lost.view(-1, *[1] * (y.dim() - 1)))

    def _kernel(self, rows: Rows) -> onednn.PackedKernel | None:
        """In oneDNN's layout, where that can be used here and now."""
        if not can_prepare(self) or is_followed() or not convolves(self.codes.device):
            return None
        if rows.scale.dtype != torch.float32 or not len(rows.q):
            return None
        return self._prepared.of(self.tensors(), self._unpacked, self._packed)

    def tensors(self) -> list[Tensor]:
        """All that it computes with."""
        found = [*map(own_buffers(self).get, self.computed_with), own_parameters(self).get("bias")]
        return [tensor for tensor in found if tensor is not None]

    def _unpacked(self) -> onednn.PackedKernel:
        zeros = torch.zeros(len(self.codes), dtype=torch.int32)
        return onednn.PackedKernel(self.codes, self.scale, zeros, self._bias(), self.stride, self.dilation)

    def _packed(self, kernel: onednn.PackedKernel) -> onednn.PackedKernel:
        weight = unwatched(kernel.weight).view(self.kernel_shape)
        return onednn.pack_kernel(weight, kernel.scale.clone(), kernel.bias.clone(), self.stride, self.dilation)

    def _bias(self) -> Tensor:
        scale = wide(self.scale)
        return scale.new_zeros(len(scale)) if self.bias is None else self.bias.to(scale.dtype)

    def _as_linear(self, rows: Rows, x: Tensor) -> Tensor:
        """The same by the product that each device has."""
        places = self._places(x)
        windows = self._windows(rows.q.view(x.shape))  # (N * places, I * kernel)
        number, weight, scale = math.prod(places), unwatched(self.codes), wide(self.scale)
        lost = None if rows.lost is None else _for_each(rows.lost, number)
        spread = Rows(windows, _for_each(rows.scale, number), _for_each(rows.zero, number), lost)
        sums = weight.sum(dim=1, dtype=torch.int32) * scale
        y = affine_linear(spread, Operands(weight, scale, sums, self._bias()))
        return y.view(len(x), *places, len(weight)).movedim(-1, 1).contiguous()

    def _windows(self, q: Tensor) -> Tensor:
        """(N, I, ...) to (N * places, I * kernel): what the kernel sees at each place."""
        dims = range(len(self.stride))
        for dim, width, stride, step in zip(dims, self.kernel_shape[2:], self.stride, self.dilation, strict=True):
            q = q.unfold(2 + dim, step * (width - 1) + 1, stride)[..., ::step]
        spatial = [2 + dim for dim in dims]
        kernel = [2 + len(dims) + dim for dim in dims]
        return q.permute(0, *spatial, 1, *kernel).reshape(-1, self.codes.shape[1])

    def extra_repr(self) -> str:
        return f"{self.kernel_shape}, stride={self.stride}, pads={self.pads}, per_example={self.per_example}"


class StaticInt8Convolution(OnFixedGrid, Int8Convolution):
    """The same with activations on a grid that calibration has fixed."""

    computed_with = (*Int8Convolution.computed_with, "input_scale", "input_zero")

    def __init__(self, source: Any, quantized: Quantized, grid: Grid) -> None:
        super().__init__(source, quantized)
        self.hold_grid(grid)


def _pads(source: Any) -> list[int]:
    """As ``F.pad`` takes them: the last dimension first, below and above."""
    pads = []
    for dim in reversed(range(len(source.kernel_size))):
        if isinstance(source.padding, str):
            both = source.dilation[dim] * (source.kernel_size[dim] - 1) if source.padding == "same" else 0
            pads += [both // 2, both - both // 2]
        else:
            pads += [source.padding[dim]] * 2
    return pads


def _on_each_grid(rows: Rows, kernel: onednn.PackedKernel) -> Tensor:
    """OneDNN takes one grid at a time: each example has a call. Channels come last of it, and first of this."""
    if rows.scale.numel() == 1:
        return onednn.convolution(rows.q, kernel, float(rows.scale), float(rows.zero)).contiguous()
    grids = zip(rows.q.split(1), rows.scale.flatten().tolist(), rows.zero.flatten().tolist(), strict=True)
    made = [onednn.convolution(q, kernel, scale, zero).contiguous() for q, scale, zero in grids]
    return torch.cat(made)


def _for_each(values: Tensor, number: int) -> Tensor:
    """(N, 1), one for each of so many rows of an example; () stays."""
    return values.repeat_interleave(number, dim=0) if values.dim() else values
