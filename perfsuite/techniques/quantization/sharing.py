"""The query, key and value projections of one attention read the same input: it is quantized once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from perfsuite.techniques.quantization.grid import Rows

PROJECTIONS = (
    ("query", "key", "value"),  # ours, BERT
    ("q_lin", "k_lin", "v_lin"),  # DistilBERT
    ("q_proj", "k_proj", "v_proj"),
)


class SharedInput:
    """Remembers the last input and its rows, only while the attention that owns it runs.

    Outside of that an input could be changed unseen (memory shared with NumPy) before it comes again.
    """

    def __init__(self) -> None:
        self._open = False
        self._last: tuple[Tensor, int, Rows] | None = None  # one value: another thread sees all of it or nothing

    def rows(self, x: Tensor, quantize: Callable[[Tensor], Rows]) -> Rows:
        if not self._open or torch.compiler.is_compiling() or x.is_inference():
            return quantize(x)
        last = self._last
        if last is None or last[0] is not x or last[1] != x._version:
            self._last = last = (x, x._version, quantize(x))
        return last[2]

    def open(self, module: nn.Module, args: Any) -> None:
        """The attention's forward pre-hook."""
        self._open = True

    def close(self, module: nn.Module, args: Any, output: Any) -> None:
        """The attention's forward hook."""
        self._open, self._last = False, None


def share_inputs(model: nn.Module, kind: type[nn.Module]) -> None:
    """Let the projections of each attention share one quantized input, where all three are of that kind."""
    for module in model.modules():
        for names in PROJECTIONS:
            layers: list[Any] = [getattr(module, name, None) for name in names]
            if all(type(layer) is kind for layer in layers):
                shared = SharedInput()
                for layer in layers:
                    layer.sharing = shared
                module.register_forward_pre_hook(shared.open)
                module.register_forward_hook(shared.close, always_call=True)
