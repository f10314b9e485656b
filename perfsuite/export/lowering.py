"""Our layers in the operators of other runtimes, with our scales: what makes their kernels multiply our integers.

A layer is lowered by what is registered for its class here; a layer of somebody else's that is not is exported as torch
computes it. The modules that come of it exist to be exported: called in torch they give zeros, for torch knows none of
these operators.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from enum import Enum
from functools import singledispatch

import torch
from torch import Tensor, nn
from torch.onnx.ops import symbolic, symbolic_multi_out

from perfsuite.errors import TechniqueError
from perfsuite.techniques.common import replace_modules
from perfsuite.techniques.quantization.grid import LARGEST, LOWEST, SHIFT, STEPS
from perfsuite.techniques.quantization.layers import Int8Embedding, Int8Linear, OnFixedGrid, StaticInt8Linear
from perfsuite.techniques.quantization.packing import PackedLinear, pack, unpack

OPSET = 21
MOST = 255  # of an unsigned integer of 8 bits
_SMALLEST_BLOCK = 16  # of MatMulNBits


class OnTheFly(Enum):
    """Where a runtime quantizes what is multiplied with int8 weights."""

    GRAPH = "graph"  # by operators of the graph, as ours say
    KERNEL = "kernel"  # in the product itself, one scale for each group of a token's values
    NOWHERE = "nowhere"


@dataclass(frozen=True)
class Dialect:
    """What a runtime's optimizer turns into fast kernels.

    ``floats``: those that it computes in; others it would take for something else, or compute in less. ``symmetric``:
    whether its grids have 0 in the middle; ours are made so, as wide as they have to be. ``opset``: of ONNX; from 23 on
    attention is one operator, which is faster than its parts.
    """

    runtime: str
    on_the_fly: OnTheFly = OnTheFly.GRAPH
    floats: tuple[torch.dtype, ...] = (torch.float32, torch.float64, torch.float16)
    symmetric: bool = False
    opset: int = 23


def lowered(module: nn.Module, dialect: Dialect) -> nn.Module:
    """A copy with each layer in the form that the runtime is fastest with; the given module stays as it is."""
    model = copy.deepcopy(module)
    for layer in model.modules():
        if isinstance(layer, Int8Linear):
            layer.sharing = None  # in a graph, what layers have in common is the optimizer's business
    return replace_modules(model, lambda layer: lower(layer, dialect))


@singledispatch
def lower(layer: nn.Module, dialect: Dialect) -> nn.Module:
    """What stands in the place of a layer in the exported graph. Raises TechniqueError where there is no such form."""
    return layer


@lower.register
def _(layer: Int8Linear, dialect: Dialect) -> nn.Module:
    if dialect.on_the_fly is OnTheFly.GRAPH:
        return DynamicProduct(layer)
    if dialect.on_the_fly is OnTheFly.NOWHERE:
        raise TechniqueError(
            f"{dialect.runtime} has no product of int8 with activations that are quantized on the fly",
            "choose 'int8-static', whose grids are fixed",
        )
    if not layer.per_token:
        raise TechniqueError(
            f"{dialect.runtime} has no product of int8 with one scale for all activations of a call",
            "choose 'int8-dynamic', or 'int8-static', whose grids are fixed",
        )
    return CompressedProduct(layer)


@lower.register
def _(layer: StaticInt8Linear, dialect: Dialect) -> nn.Module:
    return StaticProduct(layer, symmetric=dialect.symmetric)


@lower.register
def _(layer: PackedLinear, dialect: Dialect) -> nn.Module:
    size = layer.group_size
    if size < _SMALLEST_BLOCK or size & (size - 1):
        raise TechniqueError(
            f"{dialect.runtime} has no product with weights in groups of {size}",
            f"choose a power of two from {_SMALLEST_BLOCK}, such as 'weight-only-{layer.bits}-g64'",
        )
    return BlockProduct(layer)


@lower.register
def _(layer: Int8Embedding, dialect: Dialect) -> nn.Module:
    return Rows(layer)


class StaticProduct(nn.Module):
    """QuantizeLinear and DequantizeLinear around the input, DequantizeLinear behind the weights, and a product.

    In this form every optimizer finds the product of integers. The grid is ours, 128 further up: unsigned.
    ``symmetric``: signed, with 0 in the middle, and as wide as the end that is further away from it.
    """

    weight: Tensor
    scale: Tensor
    no_zero: Tensor
    input_scale: Tensor
    input_zero: Tensor

    def __init__(self, layer: StaticInt8Linear, *, symmetric: bool = False) -> None:
        super().__init__()
        self.register_buffer("weight", layer.codes.t().contiguous())
        self.register_buffer("scale", layer.scale.float())
        self.register_buffer("no_zero", torch.zeros_like(layer.scale, dtype=torch.int8))
        scale, zero = symmetric_grid(layer) if symmetric else unsigned_grid(layer)
        self.register_buffer("input_scale", scale)
        self.register_buffer("input_zero", zero)
        self.bias = layer.bias

    def forward(self, input: Tensor) -> Tensor:
        """(..., I) to (..., O)."""
        x = input.float()
        grid = (self.input_scale, self.input_zero)
        q = symbolic("QuantizeLinear", (x, *grid), dtype=self.input_zero.dtype, shape=x.shape, version=OPSET)
        x = symbolic("DequantizeLinear", (q, *grid), dtype=torch.float32, shape=x.shape, version=OPSET)
        return _biased(_product(x, _dequantized(self)), self.bias).to(input.dtype)


class DynamicProduct(nn.Module):
    """A product of integers: the input is quantized on the fly, with one scale for all of it or one for each token."""

    weight: Tensor
    scale: Tensor
    no_zero: Tensor
    sums: Tensor

    def __init__(self, layer: Int8Linear) -> None:
        super().__init__()
        self.per_token = layer.per_token
        self.register_buffer("weight", layer.codes.t().contiguous())
        self.register_buffer("scale", layer.scale.float())
        self.register_buffer("no_zero", torch.zeros((), dtype=torch.int8))
        self.register_buffer("sums", layer.codes.sum(dim=1).float())
        self.bias = layer.bias

    def forward(self, input: Tensor) -> Tensor:
        """(..., I) to (..., O)."""
        y = self._by_token(input.float()) if self.per_token else self._at_once(input.float())
        return _biased(y, self.bias).to(input.dtype)

    def _at_once(self, x: Tensor) -> Tensor:
        """ONNX's own operators, whose grid has 256 points where ours has 255."""
        q, scale, zero = symbolic_multi_out(
            "DynamicQuantizeLinear", (x,), dtypes=(torch.uint8, torch.float32, torch.uint8),
            shapes=(x.shape, (), ()), version=OPSET,
        )  # fmt: skip
        return self._product(q, zero).float() * (scale * self.scale)

    def _by_token(self, x: Tensor) -> Tensor:
        """There is no operator with a scale for each token: the grid is spelled out, the product is the same."""
        low, high = x.amin(-1, keepdim=True).clamp(max=0), x.amax(-1, keepdim=True).clamp(min=0)
        scale = ((high - low) / (MOST - 1)).clamp(min=torch.finfo(torch.float32).tiny)
        zero = torch.round(-low / scale)
        q = torch.round(x / scale + zero).clamp(0, MOST).to(torch.uint8)
        none = torch.zeros((), dtype=torch.uint8)
        return (self._product(q, none).float() - zero * self.sums) * (scale * self.scale)

    def _product(self, q: Tensor, zero: Tensor) -> Tensor:
        shape = (*q.shape[:-1], self.weight.shape[1])
        return symbolic(
            "MatMulInteger", (q, self.weight, zero, self.no_zero), dtype=torch.int32, shape=shape, version=OPSET
        )


class CompressedProduct(nn.Module):
    """A product with dequantized weights: the form in which a runtime quantizes inside its kernel."""

    weight: Tensor
    scale: Tensor
    no_zero: Tensor

    def __init__(self, layer: Int8Linear) -> None:
        super().__init__()
        self.register_buffer("weight", layer.codes.t().contiguous())
        self.register_buffer("scale", layer.scale.float())
        self.register_buffer("no_zero", torch.zeros_like(layer.scale, dtype=torch.int8))
        self.bias = layer.bias

    def forward(self, input: Tensor) -> Tensor:
        """(..., I) to (..., O)."""
        return _biased(_product(input.float(), _dequantized(self)), self.bias).to(input.dtype)


class BlockProduct(nn.Module):
    """A product with weights of 4 or 8 bits and a scale for each block of inputs: the operator MatMulNBits.

    It has no 2, 3, 5, 6 or 7 bits: such codes are stored in the next larger ones, and stand for the same weights.
    """

    codes: Tensor
    scales: Tensor

    def __init__(self, layer: PackedLinear) -> None:
        super().__init__()
        self.bits = 4 if layer.bits <= 4 else 8
        self.block, self.features = layer.group_size, (layer.in_features, layer.out_features)
        blocks = layer.scales.shape[1]
        q = unpack(layer.codes, layer.bits, layer.in_features).to(torch.int64) - 2 ** (layer.bits - 1)
        padded = nn.functional.pad(q, (0, blocks * self.block - layer.in_features)) + 2 ** (self.bits - 1)
        codes = pack(padded, self.bits)  # the lowest bits first, as in MatMulNBits
        self.register_buffer("codes", codes.unflatten(1, (blocks, -1)).contiguous())
        self.register_buffer("scales", layer.scales.float().contiguous())
        self.bias = layer.bias

    def forward(self, input: Tensor) -> Tensor:
        """(..., I) to (..., O)."""
        (k, n), x = self.features, input.float()
        y = symbolic(
            "com.microsoft::MatMulNBits", (x, self.codes, self.scales),
            {"K": k, "N": n, "bits": self.bits, "block_size": self.block},
            dtype=torch.float32, shape=(*x.shape[:-1], n), version=1,
        )  # fmt: skip
        return _biased(y, self.bias).to(input.dtype)


class Rows(nn.Module):
    """An embedding of int8 rows: a gather of each, and of their scales."""

    weight: Tensor
    scale: Tensor

    def __init__(self, layer: Int8Embedding) -> None:
        super().__init__()
        self.register_buffer("weight", layer.codes)
        self.register_buffer("scale", layer.scale.float().unsqueeze(-1))
        self.dtype = layer.like.dtype

    def forward(self, input: Tensor) -> Tensor:
        """(...) ids to (..., D)."""
        rows = symbolic(
            "Gather", (self.weight, input), dtype=torch.int8, shape=(*input.shape, self.weight.shape[1]), version=OPSET
        )
        return (rows.float() * nn.functional.embedding(input, self.scale)).to(self.dtype)


def unsigned_grid(layer: OnFixedGrid) -> tuple[Tensor, Tensor]:
    """Our grid, 128 further up."""
    return layer.input_scale.float(), (layer.input_zero + SHIFT).to(torch.uint8)


def symmetric_grid(layer: OnFixedGrid) -> tuple[Tensor, Tensor]:
    """The grid's ends are LOWEST and LOWEST + STEPS, less its zero; the further one becomes LARGEST."""
    reach = torch.maximum(layer.input_zero - LOWEST, LOWEST + STEPS - layer.input_zero).float()
    return layer.input_scale.float() * reach / LARGEST, torch.zeros((), dtype=torch.int8)


def _dequantized(layer: StaticProduct | CompressedProduct) -> Tensor:
    return symbolic(
        "DequantizeLinear", (layer.weight, layer.scale, layer.no_zero), {"axis": 1},
        dtype=torch.float32, shape=layer.weight.shape, version=OPSET,
    )  # fmt: skip


def _product(x: Tensor, weight: Tensor) -> Tensor:
    """(..., I) times (I, O). Of matrices it is made one of batches: ONNX Runtime would make a Gemm of product and bias
    first, and then not find the integers.
    """
    return (x.unsqueeze(0) @ weight).squeeze(0) if x.dim() == 2 else x @ weight


def _biased(y: Tensor, bias: Tensor | None) -> Tensor:
    return y if bias is None else y + bias.float()
