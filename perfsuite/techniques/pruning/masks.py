"""Zeros that stay zero while a pruned model is fine-tuned.

No wrapped parameters and no buffers: names, bytes and optimizers see an ordinary model, and there
is nothing to bake or to leave behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook


@contextmanager
def keep_zeros(model: nn.Module) -> Iterator[None]:
    """While open, what is zero in the model's weights of two and more dimensions stays zero.

    Gradients of the zeros are zeroed as they come (so that norms and moments do not count them), and
    after every step of any optimizer the zeros are written again (old momentum would move them).
    """
    masks = {p: p.detach() == 0 for p in model.parameters() if p.dim() > 1 and bool((p == 0).any())}
    handles = [
        p.register_post_accumulate_grad_hook(_GradientMask(mask)) for p, mask in masks.items() if p.requires_grad
    ]

    def write_again(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        with torch.no_grad():
            for group in optimizer.param_groups:
                for p in group["params"]:
                    if p in masks:
                        p.masked_fill_(masks[p], 0)

    handles.append(register_optimizer_step_post_hook(write_again))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _GradientMask:
    def __init__(self, mask: Tensor) -> None:
        self.mask = mask

    def __call__(self, parameter: Tensor) -> None:
        assert parameter.grad is not None
        parameter.grad.masked_fill_(self.mask, 0)
