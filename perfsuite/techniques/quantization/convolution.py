"""Convolutions whose kernels are stored in int8, with a scale for each output channel; they compute in float."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from perfsuite.techniques.common import owns_weight
from perfsuite.techniques.quantization.layers import OnRows, Quantized

_CALLS: dict[type[nn.Module], Callable[..., Tensor]] = {
    nn.Conv1d: F.conv1d,
    nn.Conv2d: F.conv2d,
    nn.Conv3d: F.conv3d,
}


def is_convolution(module: Any) -> bool:
    """One of torch's own that pads with zeros; a subclass may compute something else."""
    return type(module) in _CALLS and owns_weight(module) and module.padding_mode == "zeros"


class Int8Convolution(OnRows):
    """Codes (O, I / groups * kernel) int8, scale (O,), bias (O,) or None. The kernel is made anew at each call."""

    def __init__(self, source: Any, rows_of: Callable[[nn.Parameter], Quantized]) -> None:
        super().__init__(rows_of(source.weight))
        self.call = _CALLS[type(source)]
        self.kernel_shape = tuple(source.weight.shape)
        self.stride, self.padding = source.stride, source.padding
        self.dilation, self.groups = source.dilation, source.groups
        self.bias = source.bias

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """(O, I / groups, ...)."""
        return self.kernel_shape

    def dequantized(self, dtype: Any) -> Tensor:
        return super().dequantized(dtype).view(self.kernel_shape)

    def forward(self, input: Tensor) -> Tensor:
        """As the convolution in whose place it is."""
        weight = self.dequantized(input.dtype)
        return self.call(input, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        return f"{self.kernel_shape}, stride={self.stride}, padding={self.padding}, groups={self.groups}"
