"""A prepared layer beside its quantized one: answers and gradients by float64, from the integers of the latter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from perfsuite.techniques.quantization.layers import Int8Linear
from perfsuite.techniques.quantization.packing import PackedLinear
from perfsuite.techniques.quantization.readable import QuantizedLayer

_TOKENS = 6
_SIZES = (0.5, 3.0)  # of inputs: inside of most ranges, and beyond their ends
_MORE = 8  # roundings, beside those of the sum
_CLOSE = 1e-9  # relative to the largest, in float64


def pairs(prepared: nn.Module, converted: nn.Module) -> Iterator[tuple[str, Any, Any]]:
    """Each layer that holds integers, by name, after the prepared one in whose place it is."""
    for name, quantized in converted.named_modules():
        if isinstance(quantized, QuantizedLayer):
            yield name, prepared.get_submodule(name), quantized


def linear_pairs(prepared: nn.Module, converted: nn.Module) -> Iterator[tuple[str, Any, Any]]:
    """Those that multiply rows (N, I) with a matrix."""
    for name, fake, quantized in pairs(prepared, converted):
        if isinstance(quantized, Int8Linear | PackedLinear):
            yield name, fake, quantized


def check_answer(name: str, fake: Any, quantized: Any) -> None:
    """Both are within what float sums of that many terms may be off; raises AssertionError."""
    weight = quantized.dequantized(torch.float64)
    for size in _SIZES:
        x = _rows(quantized, size)
        seen, magnitude, _ = _seen(quantized, x)
        bias = torch.zeros(len(weight)) if fake.bias is None else fake.bias.detach().double()
        exact = seen @ weight.t() + bias
        largest = magnitude @ weight.abs().t() + bias.abs()
        allowed = 2 * (x.shape[1] + _MORE) * torch.finfo(x.dtype).eps * largest + torch.finfo(x.dtype).tiny
        for what, layer in (("as it is trained", fake), ("as it is deployed", quantized)):
            with torch.no_grad():
                off = (layer(x).double() - exact).abs()
            assert bool((off <= allowed).all()), f"{name!r} {what} is not what its integers stand for"


def check_gradients(name: str, fake: Any, quantized: Any) -> None:
    """Of the input and of the parameters, for a seeded gradient of the output; raises AssertionError."""
    parameters = dict(fake.named_parameters(recurse=False))
    for size in _SIZES:
        x = _rows(quantized, size).requires_grad_()
        y = fake(x)
        arriving = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).double()
        given = [x, *parameters.values()]
        found = dict(
            zip(("input", *parameters), torch.autograd.grad(y, given, arriving, allow_unused=True), strict=True)
        )
        seen, _, inside = _seen(quantized, x.detach())
        weight = arriving.t() @ seen
        _same(name, "input", found["input"], (arriving @ quantized.dequantized(torch.float64)) * inside)
        _same(name, "weight", found["weight"], weight.t() if quantized.is_turned else weight)
        if "bias" in found:
            _same(name, "bias", found["bias"], arriving.sum(dim=0))


def _same(name: str, what: str, found: Tensor | None, expected: Tensor) -> None:
    assert found is not None, f"the {what} of {name!r} gets no gradient"
    off = float((found - expected).abs().max())
    allowed = _CLOSE * (float(expected.abs().max()) + 1)
    assert off <= allowed, f"the gradient of the {what} of {name!r} is {off:.2g} off that of straight-through"


def _rows(quantized: Any, size: float) -> Tensor:
    """(N, I)."""
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(_TOKENS, quantized.in_features, generator=generator) * size).to(quantized.like.dtype)


def _seen(quantized: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """In float64, the rows that integers stand for, how large their terms are, and which rounding alone has moved."""
    if isinstance(quantized, PackedLinear):
        return x.double(), x.double().abs(), torch.ones_like(x, dtype=torch.bool)
    rows = quantized.quantize(x)
    codes, scale, zero = rows.signed().double(), rows.scale.double(), rows.zero.double()
    seen = (codes - zero) * scale
    inside = (seen - x.double()).abs() <= scale / 2 * (1 + 1e-6)
    return seen, (codes.abs() + zero.abs()) * scale, inside
