"""The three ways to quantize a model, in place: dynamic, static and weight-only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from perfsuite._compat.torch import own_parameters
from perfsuite.techniques.common import linear_weights
from perfsuite.techniques.quantization.convert import Memo, convert, is_embedding, prepare
from perfsuite.techniques.quantization.grid import quantize_rows, quantize_tensor
from perfsuite.techniques.quantization.kernels import kernel_name
from perfsuite.techniques.quantization.layers import Int8Embedding, Int8Linear, Quantized, StaticInt8Linear
from perfsuite.techniques.quantization.packing import PackedLinear, quantize_groups
from perfsuite.techniques.quantization.sharing import share_inputs
from perfsuite.techniques.quantization.values import Int8Dynamic, Int8Static, WeightOnly

Grids = Mapping[str, tuple[Tensor, Tensor]]


def dynamic(model: nn.Module, technique: Int8Dynamic) -> nn.Module:
    """Int8 weights; activations are quantized on the fly."""

    def linear(quantized: Quantized, bias: nn.Parameter | None, name: str) -> Int8Linear:
        return Int8Linear(quantized, bias, per_token=technique.per_token)

    return _int8(model, technique, linear, Int8Linear)


def static(model: nn.Module, technique: Int8Static, grids: Grids | None) -> nn.Module:
    """Int8 weights; activations on the calibrated grids. Without grids: the structure alone."""

    def linear(quantized: Quantized, bias: nn.Parameter | None, name: str) -> Int8Linear:
        nothing = quantized[1].new_zeros(())
        return StaticInt8Linear(quantized, bias, (nothing, nothing.clone()) if grids is None else grids[name])

    return _int8(model, technique, linear, StaticInt8Linear)


def _int8(
    model: nn.Module,
    technique: Int8Dynamic | Int8Static,
    linear: Callable[[Quantized, nn.Parameter | None, str], Int8Linear],
    kind: type[Int8Linear],
) -> nn.Module:
    chosen = prepare(model, technique.include, technique.exclude, technique.embeddings)
    kernel_name(torch.device("cpu"))  # choose the kernel now, not in the middle of a measurement
    rows, weights = _memos(chosen, technique.per_channel)

    def make(module: nn.Module, name: str) -> nn.Module:
        if is_embedding(module):
            return _embedding(module, rows)
        return linear(weights(module), linear_weights(module).bias, name)

    converted = convert(model, chosen, make)
    share_inputs(converted, kind)
    return converted


def weight_only(model: nn.Module, technique: WeightOnly) -> nn.Module:
    """Packed linear weights; embeddings in int8."""
    chosen = prepare(model, technique.include, technique.exclude, technique.embeddings)
    tied = _tied_to_embeddings(chosen)
    rows = Memo(quantize_rows)
    groups = Memo(lambda weight: quantize_groups(weight, technique.bits, technique.group_size))

    def make(module: nn.Module, name: str) -> nn.Module:
        if is_embedding(module):
            return _embedding(module, rows)
        weights = linear_weights(module)
        if module in tied:  # one tensor serves both
            return Int8Linear(rows(module), weights.bias)
        width = weights.weight.shape[1]
        return PackedLinear(groups(module), width, technique.bits, technique.group_size, weights.bias)

    return convert(model, chosen, make)


def _memos(chosen: Mapping[nn.Module, str], per_channel: bool) -> tuple[Memo, Callable[[nn.Module], Any]]:
    """How embeddings and how linear weights are quantized; where one tensor serves both, in the same way."""
    rows = Memo(quantize_rows)
    if per_channel:
        return rows, rows
    whole, tied = Memo(quantize_tensor), _tied_to_embeddings(chosen)
    return rows, lambda module: (rows if module in tied else whole)(module)


def _embedding(module: Any, rows: Memo) -> Int8Embedding:
    return Int8Embedding(rows(module), module.weight.dtype, module.padding_idx)


def _tied_to_embeddings(chosen: Mapping[nn.Module, str]) -> set[nn.Module]:
    tables = {own_parameters(module)["weight"] for module in chosen if is_embedding(module)}
    return {module for module in chosen if not is_embedding(module) and own_parameters(module)["weight"] in tables}
