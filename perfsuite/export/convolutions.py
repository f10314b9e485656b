"""Our convolutions in the operators of other runtimes, with our scales.

What is padded is padded as floats, as in ours. Where a runtime has no product of integers for them, weights alone are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.onnx.ops import symbolic

from perfsuite.errors import TechniqueError
from perfsuite.export.lowering import MOST, OPSET, Dialect, OnTheFly, lower, symmetric_grid, unsigned_grid
from perfsuite.techniques.quantization.convolution import Int8Convolution, StaticInt8Convolution


@lower.register
def _(layer: Int8Convolution, dialect: Dialect) -> nn.Module:
    if dialect.on_the_fly is OnTheFly.NOWHERE:
        raise TechniqueError(
            f"{dialect.runtime} has no convolution of int8 with activations that are quantized on the fly",
            "choose 'int8-static', whose grids are fixed",
        )
    return DynamicConvolution(layer) if dialect.on_the_fly is OnTheFly.GRAPH else FloatConvolution(layer)


@lower.register
def _(layer: StaticInt8Convolution, dialect: Dialect) -> nn.Module:
    if dialect.on_the_fly is OnTheFly.GRAPH:
        return StaticConvolution(layer)
    return GriddedConvolution(layer, symmetric=dialect.symmetric)


class FloatConvolution(nn.Module):
    """A convolution with dequantized weights."""

    weight: Tensor
    scale: Tensor
    no_zeros: Tensor

    def __init__(self, layer: Int8Convolution) -> None:
        super().__init__()
        self.layer = _Padding(layer)
        self.register_buffer("weight", layer.codes.view(layer.kernel_shape))
        self.register_buffer("scale", layer.scale.float())
        self.register_buffer("no_zeros", torch.zeros_like(layer.scale, dtype=torch.int8))
        self.bias = layer.bias

    def forward(self, input: Tensor) -> Tensor:
        """(N, I, ...) to (N, O, ...)."""
        return self._biased(self._convolved(self.layer.padded(input))).to(input.dtype)

    def _convolved(self, x: Tensor) -> Tensor:
        weight = symbolic(
            "DequantizeLinear", (self.weight, self.scale, self.no_zeros), {"axis": 0},
            dtype=torch.float32, shape=self.weight.shape, version=OPSET,
        )  # fmt: skip
        return self.layer.call(x, weight, None, self.layer.stride, 0, self.layer.dilation)

    def _biased(self, y: Tensor) -> Tensor:
        return y if self.bias is None else y + self._by_channel(self.bias.float())

    def _by_channel(self, values: Tensor) -> Tensor:
        """(O,) to (1, O, 1, ...)."""
        return values.view(1, -1, *[1] * (self.weight.dim() - 2))


class GriddedConvolution(FloatConvolution):
    """The same with QuantizeLinear and DequantizeLinear around the input, in which optimizers find integers."""

    input_scale: Tensor
    input_zero: Tensor

    def __init__(self, layer: StaticInt8Convolution, *, symmetric: bool = False) -> None:
        super().__init__(layer)
        scale, zero = symmetric_grid(layer) if symmetric else unsigned_grid(layer)
        self.register_buffer("input_scale", scale)
        self.register_buffer("input_zero", zero)

    def _convolved(self, x: Tensor) -> Tensor:
        grid = (self.input_scale, self.input_zero)
        q = symbolic("QuantizeLinear", (x, *grid), dtype=self.input_zero.dtype, shape=x.shape, version=OPSET)
        x = symbolic("DequantizeLinear", (q, *grid), dtype=torch.float32, shape=x.shape, version=OPSET)
        return super()._convolved(x)


class StaticConvolution(GriddedConvolution):
    """A convolution of integers: the operator ConvInteger, with the zero of the grid."""

    def _convolved(self, x: Tensor) -> Tensor:
        grid = (self.input_scale, self.input_zero)
        q = symbolic("QuantizeLinear", (x, *grid), dtype=torch.uint8, shape=x.shape, version=OPSET)
        return _of_integers(self, q, self.input_zero) * self._by_channel(self.scale * self.input_scale)


class DynamicConvolution(FloatConvolution):
    """A convolution of integers: the input is quantized on the fly, with a scale for each example or for all of it."""

    sums: Tensor

    def __init__(self, layer: Int8Convolution) -> None:
        super().__init__(layer)
        self.per_example = layer.per_example
        self.register_buffer("sums", layer.codes.sum(dim=1).float())

    def _convolved(self, x: Tensor) -> Tensor:
        """There is no operator with a scale for each example: the grid is spelled out."""
        dims = list(range(1 if self.per_example else 0, x.dim()))
        low, high = x.amin(dims, keepdim=True).clamp(max=0), x.amax(dims, keepdim=True).clamp(min=0)
        scale = ((high - low) / (MOST - 1)).clamp(min=torch.finfo(torch.float32).tiny)
        zero = torch.round(-low / scale)
        q = torch.round(x / scale + zero).clamp(0, MOST).to(torch.uint8)
        y = _of_integers(self, q, torch.zeros((), dtype=torch.uint8))
        return (y - zero * self._by_channel(self.sums)) * (scale * self._by_channel(self.scale))


class _Padding(nn.Module):
    """How a convolution is called, without its weights."""

    def __init__(self, layer: Int8Convolution) -> None:
        super().__init__()
        self.call, self.stride, self.dilation = layer.call, layer.stride, layer.dilation
        self.pads, self.pad_mode, self.dims = layer.pads, layer.pad_mode, len(layer.kernel_shape)

    def padded(self, input: Tensor) -> Tensor:
        x = input.float()
        if x.dim() != self.dims:
            raise TechniqueError(
                f"a convolution of {self.dims - 2} dimensions gets {x.dim()} of them", "give inputs with a batch"
            )
        return nn.functional.pad(x, self.pads, self.pad_mode) if any(self.pads) else x


def _of_integers(module: FloatConvolution, q: Tensor, zero: Tensor) -> Tensor:
    """The sums of products, as floats."""
    layer, weight = module.layer, module.weight
    sizes = zip(q.shape[2:], weight.shape[2:], layer.stride, layer.dilation, strict=True)
    places = [(size - step * (width - 1) - 1) // stride + 1 for size, width, stride, step in sizes]
    sums = symbolic(
        "ConvInteger", (q, weight, zero), {"strides": list(layer.stride), "dilations": list(layer.dilation)},
        dtype=torch.int32, shape=(q.shape[0], weight.shape[0], *places), version=OPSET,
    )  # fmt: skip
    return sums.float()
