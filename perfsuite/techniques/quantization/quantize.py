"""Quantizing the chosen layers of a model, in place: to int8, or to packed weights of fewer bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from perfsuite._compat.torch import own_parameters
from perfsuite.techniques.common import linear_weights
from perfsuite.techniques.quantization.choosing import Chosen
from perfsuite.techniques.quantization.chunks import int8_rows, int8_whole, packed_rows
from perfsuite.techniques.quantization.convert import Memo, convert
from perfsuite.techniques.quantization.kernels import kernel_name
from perfsuite.techniques.quantization.layers import Int8Embedding, Int8Linear, OnRows
from perfsuite.techniques.quantization.makers import Makers
from perfsuite.techniques.quantization.packing import PackedLinear
from perfsuite.techniques.quantization.parameters import store as store_parameters
from perfsuite.techniques.quantization.reading import reading_int8
from perfsuite.techniques.quantization.sharing import share_inputs
from perfsuite.techniques.quantization.stored import Store, is_stored


def to_int8(model: nn.Module, chosen: Chosen, makers: Makers, *, per_channel: bool) -> nn.Module:
    """Int8 in the place of the layers that ``choosing.prepare`` chose."""
    kernel_name(torch.device("cpu"))  # choose the kernel now, not in the middle of a measurement
    rows, weights = _memos(chosen, per_channel)
    store = Store()
    convolutions = {*chosen.layers.convolutions}

    def make(module: nn.Module, name: str) -> nn.Module:
        if name in convolutions:
            return makers.convolution(module, weights(module), name)
        if is_stored(module):
            return store(module)
        if isinstance(module, nn.Embedding):
            return _embedding(module, rows)
        return makers.linear(weights(module), linear_weights(module).bias, name)

    store_parameters(model, chosen.layers.parameters, int8_rows)
    converted = convert(model, chosen, make)
    share_inputs(converted, makers.kind)
    return converted


def to_packed(model: nn.Module, chosen: Chosen, bits: int, group_size: int) -> nn.Module:
    """Packed linear weights in the place of the chosen layers; what is only stored in int8 so."""
    tied = tied_to_embeddings(chosen)
    rows = Memo(int8_rows)
    groups = Memo(lambda weight: packed_rows(weight, bits, group_size))
    store = Store()

    def make(module: nn.Module, name: str) -> nn.Module:
        if is_stored(module):
            return store(module)
        if isinstance(module, nn.Embedding):
            return _embedding(module, rows)
        weights = linear_weights(module)
        if module in tied:  # one tensor serves both
            return Int8Linear(rows(module), weights.bias)
        return PackedLinear(groups(module), weights.weight.shape[1], bits, group_size, weights.bias)

    store_parameters(model, chosen.layers.parameters, int8_rows)
    return convert(model, chosen, make)


def _memos(chosen: Mapping[nn.Module, str], per_channel: bool) -> tuple[Memo, Callable[[nn.Module], Any]]:
    """How embeddings and how linear weights are quantized; where one tensor serves both, in the same way."""
    rows = Memo(int8_rows)
    if per_channel:
        return rows, rows
    whole, tied = Memo(int8_whole), tied_to_embeddings(chosen)
    return rows, lambda module: (rows if module in tied else whole)(module)


def _embedding(module: nn.Embedding, rows: Memo) -> OnRows:
    if type(module) is not nn.Embedding:
        table: OnRows = reading_int8(module, rows(module))
        return table
    return Int8Embedding(rows(module), module.padding_idx)


def tied_to_embeddings(chosen: Mapping[nn.Module, str]) -> set[nn.Module]:
    tables = {own_parameters(module)["weight"] for module in chosen if isinstance(module, nn.Embedding)}
    return {
        module
        for module in chosen
        if not isinstance(module, nn.Embedding) and own_parameters(module).get("weight") in tables
    }
