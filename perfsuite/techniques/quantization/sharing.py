"""Layers that read the same input, as queries, keys and values do: it is quantized once, and multiplied at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from perfsuite._compat.torch import version_of
from perfsuite.protocols import Architecture
from perfsuite.registry import architectures
from perfsuite.techniques.quantization.grid import Rows
from perfsuite.techniques.quantization.layers import Int8Linear, StaticInt8Linear, on_one_grid, operands_of
from perfsuite.techniques.quantization.linear import Operands, affine_linear
from perfsuite.techniques.quantization.preparing import Prepared, can_prepare

# What attentions commonly call them, also those of families that have no architecture. A wrong guess costs one call.
PROJECTIONS = (("query", "key", "value"), ("q_lin", "k_lin", "v_lin"), ("q_proj", "k_proj", "v_proj"))


@dataclass
class Call:
    """One run of an attention, in one thread: the last input, and what was made of it."""

    x: Tensor | None = None
    version: int = 0
    gradients: bool = False  # whether they were taken when it came
    rows: Rows | None = None
    parts: dict[int, Tensor] = field(default_factory=dict)  # outputs that wait for their layer, by its id

    def is_about(self, x: Tensor) -> bool:
        return self.x is x and self.version == version_of(x) and self.gradients == torch.is_grad_enabled()

    def begin(self, x: Tensor) -> None:
        self.x, self.version, self.gradients = x, version_of(x), torch.is_grad_enabled()
        self.rows, self.parts = None, {}


class SharedInput:
    """Remembers the last input, only while the attention that owns it runs.

    Outside of that an input could be changed unseen (memory shared with NumPy) before it comes again.
    """

    def __init__(self, layers: Sequence[Int8Linear]) -> None:
        self.layers = tuple(layers)
        self.calls: dict[int, Call] = {}  # by thread
        self._prepared: Prepared[Operands] = Prepared()
        self._joint = True  # False once these layers are known not to be joinable

    def output(self, layer: Int8Linear, x: Tensor) -> Tensor:
        """The layer's output (N, O) for its input."""
        call = None if torch.compiler.is_compiling() else self.calls.get(threading.get_ident())
        if call is None or x.is_inference():
            return affine_linear(layer.rows(x), layer.operands())
        if call.is_about(x) and id(layer) in call.parts:
            return call.parts.pop(id(layer))
        if self._joint and can_prepare(layer):
            joint = operands_of(self.layers, self._prepared)
            if joint.one_grid:
                return self._part(call, layer, x, joint)
            self._separate()
        if isinstance(layer, StaticInt8Linear):  # its grid is its own
            return affine_linear(layer.rows(x), layer.operands())
        if call.rows is None or not call.is_about(x):
            call.begin(x)
            call.rows = layer.rows(x)
        return affine_linear(call.rows, layer.operands())

    def _part(self, call: Call, layer: Int8Linear, x: Tensor, joint: Operands) -> Tensor:
        """All layers at once for the first that asks; the others find theirs."""
        y = affine_linear(layer.rows(x), joint)  # (N, sum of O)
        split = y.split([each.out_features for each in self.layers], dim=1)
        call.begin(x)
        call.parts = {id(each): part for each, part in zip(self.layers, split, strict=True)}
        return call.parts.pop(id(layer))

    def _separate(self) -> None:
        """From now on each layer multiplies by itself."""
        self._joint, self._prepared = False, Prepared()

    def open(self, module: nn.Module, args: Any) -> None:
        """The attention's forward pre-hook."""
        if not torch.compiler.is_compiling():
            self.calls[threading.get_ident()] = Call()

    def close(self, module: nn.Module, args: Any, output: Any) -> None:
        """The attention's forward hook."""
        call = None if torch.compiler.is_compiling() else self.calls.pop(threading.get_ident(), None)
        if call is not None and call.parts and output is not None:
            self._separate()  # keys come from another input here: half of the work was for nothing


def share_inputs(model: nn.Module, kind: type[Int8Linear]) -> None:
    """Let layers that read one input share it, where all of them are of that kind."""
    known = tuple(architectures().values())
    for module in model.modules():
        for layers in _reading_alike(module, known):
            unshared = len(layers) > 1 and all(type(layer) is kind and layer.sharing is None for layer in layers)
            if unshared and on_one_grid(layers):
                shared = SharedInput(layers)
                for layer in layers:
                    layer.sharing = shared
                module.register_forward_pre_hook(shared.open)
                module.register_forward_hook(shared.close, always_call=True)


def _reading_alike(module: nn.Module, known: Sequence[Architecture]) -> Iterator[list[Any]]:
    """The projections of an attention; and what computes the units that an architecture says a module has."""
    yield from ([getattr(module, name, None) for name in names] for names in PROJECTIONS)
    for architecture in known:
        if architecture.is_mine(module):
            yield from ([part.layer for part in (*g.sources, *g.companions)] for g in architecture.groups(module))
