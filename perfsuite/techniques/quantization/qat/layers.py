"""Layers that compute in float on what their quantized layers will hold: a class of their own, made of the layer's.

A layer keeps its parameters, its names, its hooks and its own forward; that reads a weight which lies on the grid.
"""

from __future__ import annotations

import functools
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from perfsuite._compat.torch import call_recurrent, own_buffers, own_parameters, recurrent_names, without_weights
from perfsuite.techniques.fake_quantized import FakeQuantized
from perfsuite.techniques.quantization.parameters import row_width
from perfsuite.techniques.quantization.qat.grids import WeightGrid, by_rows, fake_fixed, fake_rows, fake_weight

RANGE = ("input_scale", "input_zero")  # the buffers of a calibrated range, as the quantized layer calls them


class FakeWeight(FakeQuantized):
    """A layer whose weight is on a grid, and whose input is as it comes."""

    kind: ClassVar[type[nn.Module]]  # of these in this file
    original: ClassVar[type[nn.Module]]  # the layer's own
    weight_grid: WeightGrid
    is_turned: bool

    @property
    def weight(self) -> Tensor:
        """What the layer computes with, for itself and for who reads it; the parameter, while nothing is faked."""
        weight = own_parameters(self)["weight"]
        assert weight is not None
        return fake_weight(weight, self.weight_grid, is_turned=self.is_turned) if self.fakes else weight

    def __reduce_ex__(self, protocol: Any) -> Any:
        layer: Any = self
        return _empty, (self.kind, self.original), layer.__getstate__()  # a recurrent layer keeps references out of it


class FakeEmbedding(FakeWeight):
    """``nn.Embedding``: of a large table, only the rows that are asked for are put on their grids."""

    def forward(self, input: Tensor) -> Tensor:
        """(...) ids to (..., D)."""
        table: Any = own_parameters(self)["weight"]
        if not self.fakes or input.numel() >= len(table):
            found: Tensor = super().forward(input)
            return found
        layer: Any = self
        rows = F.embedding(input, table, layer.padding_idx, None, 2.0, layer.scale_grad_by_freq, layer.sparse)
        return fake_weight(rows.reshape(-1, rows.shape[-1]), by_rows).view_as(rows)


class FakeLinear(FakeWeight):
    """A linear layer whose activations are quantized on the fly, with a scale for each token or one for all."""

    per_token: bool

    def forward(self, *args: Tensor, **kwargs: Tensor) -> Any:
        """(..., I) to (..., O)."""
        if self.fakes and args:
            args = (self.seen(args[0]), *args[1:])
        elif self.fakes:
            kwargs = {name: self.seen(x) for name, x in kwargs.items()}
        return super().forward(*args, **kwargs)

    def seen(self, x: Tensor) -> Tensor:
        """The input (..., I) as the quantized layer sees it."""
        return fake_rows(x, per_token=self.per_token)


class FakeStaticLinear(FakeLinear):
    """The same on a range that calibration has fixed: input_scale () and input_zero (), which nothing here moves."""

    input_scale: Tensor
    input_zero: Tensor

    def seen(self, x: Tensor) -> Tensor:
        return fake_fixed(x, self.input_scale, self.input_zero)


class FakeConvolution(FakeLinear):
    """A convolution whose activations are quantized on the fly, with a scale for each example or one for all."""

    def seen(self, x: Tensor) -> Tensor:
        """The input (N, I, ...) or (I, ...). What is padded are zeros, which every grid holds."""
        layer: Any = self
        examples = x if x.dim() == len(layer.kernel_size) + 2 else x.unsqueeze(0)
        return fake_rows(examples.flatten(1), per_token=self.per_token).view_as(x)


class FakeParameters(FakeQuantized):
    """A module of any class, of which some parameters are on grids of their rows: what it reads of itself."""

    original: ClassVar[type[nn.Module]]
    names: ClassVar[tuple[str, ...]]

    def __reduce_ex__(self, protocol: Any) -> Any:
        layer: Any = self
        return _empty_reading, (self.original, self.names), layer.__getstate__()


class FakeRecurrent(FakeWeight):
    """``nn.LSTM`` and its like: each matrix on a grid of its rows."""

    def forward(self, input: Any, hx: Any = None) -> Any:
        """As the layer itself."""
        if not self.fakes:
            return super().forward(input, hx)
        layer: Any = self
        owned = own_parameters(self)
        weights: list[Any] = [owned[name] for name in recurrent_names(layer)]
        shell: Any = without_weights(layer)
        shell.__class__ = self.original
        faked = [fake_weight(weight, self.weight_grid) if weight.dim() > 1 else weight for weight in weights]
        return call_recurrent(shell, faked, input, hx)


def become_fake(layer: nn.Module, kind: type[FakeWeight], **attributes: Any) -> None:
    """Make the layer, in place, one of that kind. Tensors among the attributes are buffers."""
    for name, value in attributes.items():
        if isinstance(value, Tensor):
            layer.register_buffer(name, value)
        else:
            object.__setattr__(layer, name, value)
    ours: Any = kind
    original: Any = type(layer)  # a class is hashable, whatever its instances are
    layer.__class__ = _class(ours, original)


def become_plain(layer: Any) -> None:
    """What it was before, in place, with the weights of now."""
    layer.__class__ = layer.original
    for name in ("weight_grid", "is_turned", "per_token", "fakes"):
        vars(layer).pop(name, None)
    for name in RANGE:
        own_buffers(layer).pop(name, None)


def range_of(layer: nn.Module) -> tuple[Tensor, Tensor] | None:
    """The scale () and zero () that calibration has fixed, for a layer that has such a range."""
    return (layer.input_scale, layer.input_zero) if isinstance(layer, FakeStaticLinear) else None


def set_range(layer: nn.Module, scale: Tensor, zero: Tensor) -> None:
    """Write a range to a layer that has one, prepared or quantized."""
    for name, value in zip(RANGE, (scale, zero), strict=True):
        layer.get_buffer(name).copy_(value)


def read_faked(module: nn.Module, names: tuple[str, ...]) -> None:
    """Let a module, in place, read these parameters of its own as they will be stored."""
    original: Any = type(module)
    module.__class__ = _reading_class(original, names)


@functools.cache
def _reading_class(original: Any, names: tuple[str, ...]) -> Any:
    read = {name: property(functools.partial(_faked_parameter, name=name)) for name in names}
    members = {"original": original, "names": names, **read}
    return type(f"FakeQuantized{original.__name__}", (FakeParameters, original), members)


def _faked_parameter(module: Any, *, name: str) -> Tensor:
    parameter = own_parameters(module)[name]
    assert parameter is not None
    if not module.fakes:
        return parameter
    return fake_weight(parameter.reshape(-1, row_width(parameter)), by_rows).view_as(parameter)


def _empty_reading(original: Any, names: tuple[str, ...]) -> Any:
    made = _reading_class(original, names)
    return made.__new__(made)


@functools.cache
def _class(kind: Any, original: Any) -> Any:
    return type(f"FakeQuantized{original.__name__}", (kind, original), {"kind": kind, "original": original})


def _empty(kind: Any, original: Any) -> Any:
    """For copies and pickles, which find a class by the two that it is made of."""
    made = _class(kind, original)
    return made.__new__(made)
