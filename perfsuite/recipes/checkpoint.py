"""Gradient checkpointing: what blocks compute is thrown away after the forward pass, and computed again for the other.

Memory for one more forward pass (Chen et al. 2016). Random numbers are drawn again as they were, so that dropout drops
the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from perfsuite.errors import UsageError
from perfsuite.techniques.naming import Grammar, Named, Words
from perfsuite.training.plan import StepPlan

_aten = torch.ops.aten
_EXPENSIVE = {
    _aten.mm.default, _aten.addmm.default, _aten.bmm.default, _aten.baddbmm.default, _aten.convolution.default,
    _aten._scaled_dot_product_flash_attention_for_cpu.default, _aten._scaled_dot_product_flash_attention.default,
    _aten._scaled_dot_product_efficient_attention.default,
}  # fmt: skip


@dataclass(frozen=True)
class Checkpoint(Named):
    """``checkpoint``: each block is computed twice. ``checkpoint-matmul`` keeps products and attention, and computes
    the rest twice.

    Blocks are what repeats: the modules of one class in a ModuleList or Sequential, as high up as there are some.
    Raises UsageError for a model without any.
    """

    keeps: Literal["nothing", "matmul"] = "nothing"

    grammar = Grammar("checkpoint", Words("keeps", {"matmul": "matmul"}), noun="recipe")

    def apply(self, plan: StepPlan) -> StepPlan:
        found = list(blocks(plan.model))
        if not found:
            raise UsageError(
                f"the {type(plan.model).__name__} has no blocks that repeat: nothing would be checkpointed",
                "stack its blocks in an nn.ModuleList, or call torch.utils.checkpoint in its forward",
            )
        selective = partial(create_selective_checkpoint_contexts, _policy) if self.keeps == "matmul" else None
        changed = [(block, _checkpointed(block.forward, selective)) for block in found]
        outer = plan.around_forward

        @contextmanager
        def around_forward() -> Iterator[None]:
            with outer(), _calling(changed):
                yield

        return replace(plan, around_forward=around_forward)


def blocks(model: nn.Module) -> Iterator[nn.Module]:
    """What repeats, from the outside in; nothing inside of a block."""
    for child in model.children():
        if isinstance(child, nn.ModuleList | nn.Sequential):
            kinds = Counter(type(each) for each in child)
            repeated = [each for each in child if kinds[type(each)] > 1 and any(True for _ in each.children())]
            yield from repeated
            for other in child:
                if other not in repeated:
                    yield from blocks(other)
        else:
            yield from blocks(child)


@contextmanager
def _calling(changed: list[tuple[nn.Module, Callable[..., Any]]]) -> Iterator[None]:
    """Blocks are called so while it is open: the model itself stays as it is, and can be copied and saved."""
    kept = [(block, block.__dict__.get("forward")) for block, _ in changed]
    for block, forward in changed:
        block.forward = forward
    try:
        yield
    finally:
        for block, own in kept:
            del block.forward
            if own is not None:
                block.forward = own


def _checkpointed(forward: Callable[..., Any], context: Callable[[], Any] | None) -> Callable[..., Any]:
    more: dict[str, Any] = {} if context is None else {"context_fn": context}

    def call(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        return checkpoint(forward, *args, use_reentrant=False, **more, **kwargs)

    return call


def _policy(context: Any, operator: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if operator in _EXPENSIVE else CheckpointPolicy.PREFER_RECOMPUTE
