"""Dynamic int8: weights stored as plain int8 tensors with scales, activations quantized per token.

Symmetric linear quantization (Jacob et al. 2018) with one scale per output channel of a linear
layer and one per row of an embedding; activations get one scale per row (token) at each call, so a
row's result does not depend on the other rows. The integer product is exact.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from perfsuite.errors import TechniqueError
from perfsuite.techniques.common import replace_modules

LARGEST = 127  # -128 is not used: the grid is symmetric and 0 is exact
_EXACT_DEPTH = 1024  # 1024 * 127 * 127 < 2**24: so many products add up exactly in float32

Quantized = tuple[Tensor, Tensor]


def quantize_rows(x: Tensor) -> Quantized:
    """Quantize each row of (N, K) floats symmetrically.

    Returns int8 (N, K) and scales (N, 1), positive and finite for finite input; |x - q * scale| <=
    scale / 2. A row that holds NaN or infinity gets a non-finite scale, so its results are NaN.
    """
    scale = x.abs().amax(dim=-1, keepdim=True).div_(LARGEST).clamp_(min=torch.finfo(x.dtype).tiny)
    return x.div(scale).round_().to(torch.int8), scale


class Int8Linear(nn.Module):
    """A linear layer on int8 weights. Shapes: weight (O, I) int8, scale (O,), bias (O,) or None."""

    weight: Tensor
    scale: Tensor

    def __init__(self, quantized: Quantized, bias: nn.Parameter | None) -> None:
        super().__init__()
        weight, scale = quantized
        self.out_features, self.in_features = weight.shape
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale.flatten())
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) to (..., O), in the dtype of ``x``."""
        rows, row_scale = quantize_rows(x.reshape(-1, self.in_features).to(self.scale.dtype))  # (N, I), (N, 1)
        y = int8_matmul(rows, self.weight) * self.scale  # (N, O)
        y = y * row_scale if self.bias is None else torch.addcmul(self.bias.to(y.dtype), y, row_scale)
        return y.view(*x.shape[:-1], self.out_features).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"


class Int8Embedding(nn.Module):
    """An embedding with int8 rows. Shapes: weight (V, D) int8, scale (V,)."""

    weight: Tensor
    scale: Tensor

    def __init__(self, quantized: Quantized, dtype: torch.dtype, padding_idx: int | None) -> None:
        super().__init__()
        weight, scale = quantized
        self.num_embeddings, self.embedding_dim = weight.shape
        self.padding_idx = padding_idx
        self.dtype = dtype
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale.flatten())

    def forward(self, ids: Tensor) -> Tensor:
        """(...) ids to (..., D)."""
        return (self.weight[ids].to(self.scale.dtype) * self.scale[ids].unsqueeze(-1)).to(self.dtype)

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}"


def quantize(model: nn.Module, *, embeddings: bool = True) -> nn.Module:
    """Replace linear (and embedding) layers of the model in place and return it.

    Raises TechniqueError where there is nothing to quantize (a quantized model given again, say).
    """
    kernel_name(torch.device("cpu"))  # choose the kernel now, not in the middle of a measurement
    memo: dict[Tensor, Quantized] = {}  # by identity: tied weights share one quantized tensor
    converted = 0

    def replace(module: nn.Module) -> nn.Module:
        nonlocal converted
        new = _converted(module, memo, embeddings)
        if isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0  # its fused fast path would read our int8 weights as floats
        converted += new is not module
        return new

    quantized = replace_modules(model, replace)
    if not converted:
        raise TechniqueError(
            "int8-dynamic found no float linear or embedding layer to quantize",
            "use a model that has such layers, and quantize it only once",
        )
    return quantized


def _converted(module: nn.Module, memo: dict[Tensor, Quantized], embeddings: bool) -> nn.Module:
    if type(module) is nn.Linear:  # not subclasses: MultiheadAttention reads the weight of its own directly
        return Int8Linear(_quantize_weight(module.weight, memo), module.bias).train(module.training)
    if embeddings and type(module) is nn.Embedding and module.max_norm is None:
        weight = _quantize_weight(module.weight, memo)
        return Int8Embedding(weight, module.weight.dtype, module.padding_idx).train(module.training)
    return module


def _quantize_weight(weight: Tensor, memo: dict[Tensor, Quantized]) -> Quantized:
    if weight not in memo:
        wide = weight.detach().to(torch.promote_types(weight.dtype, torch.float32))
        memo[weight] = quantize_rows(wide)
    return memo[weight]


def int8_matmul(a: Tensor, b: Tensor) -> Tensor:
    """The exact product of int8 (N, K) with the transpose of int8 (O, K), as integers or whole floats (N, O)."""
    if kernel_name(a.device) == "int_mm" and _int_mm_takes(a, b):
        return torch._int_mm(a, b.t())
    return blocked_matmul(a, b)


def blocked_matmul(a: Tensor, b: Tensor) -> Tensor:
    """The same product for any device: float32 products over depths so short that every sum is exact."""
    total = torch.zeros(a.shape[0], b.shape[0], dtype=torch.int32, device=a.device)
    for start in range(0, a.shape[1], _EXACT_DEPTH):
        part = slice(start, start + _EXACT_DEPTH)
        total += (a[:, part].float() @ b[:, part].float().t()).to(torch.int32)
    return total


def _int_mm_takes(a: Tensor, b: Tensor) -> bool:
    """CUDA's kernel wants more than 16 rows and multiples of 8; the CPU's is wrong for a depth of 1 (torch 2.13)."""
    if a.device.type != "cuda":
        return a.shape[0] > 0 and a.shape[1] > 1
    return a.shape[0] > 16 and a.shape[1] % 8 == 0 and b.shape[0] % 8 == 0


@cache
def kernel_name(device: torch.device) -> str:
    """Which integer matmul this device gets: "int_mm" where it is exact, else "blocked".

    Capability is measured, not looked up: on CPUs without VNNI ``torch._int_mm`` saturates its
    16-bit intermediate sums, and a device may lack the operator altogether.
    """
    generator = torch.Generator().manual_seed(0)
    a = torch.randint(-LARGEST, LARGEST + 1, (24, 512), generator=generator, dtype=torch.int8)
    b = torch.randint(-LARGEST, LARGEST + 1, (24, 512), generator=generator, dtype=torch.int8)
    a[0], b[0], b[1] = LARGEST, LARGEST, -LARGEST  # the largest sums there can be
    try:
        product = torch._int_mm(a.to(device), b.to(device).t()).cpu()
    except (RuntimeError, NotImplementedError):
        return "blocked"
    return "int_mm" if torch.equal(product.long(), a.long() @ b.long().t()) else "blocked"
