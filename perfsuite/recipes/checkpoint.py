"""Gradient checkpointing: what blocks compute is thrown away after the forward pass, and computed again for the other.

Memory for one more forward pass (Chen et al. 2016). Random numbers are drawn again as they were, so that dropout drops
the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
    noop_context_fn,
    set_checkpoint_early_stop,
)

from perfsuite._compat.torch import counts_batches, own_buffers
from perfsuite.errors import UsageError
from perfsuite.techniques.naming import Grammar, Named, Words
from perfsuite.training.plan import StepPlan

Contexts = tuple[AbstractContextManager[Any], AbstractContextManager[Any]]  # of the forward pass, and when it is again
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
        changed = [(block, _checkpointed(block, self._contexts(block))) for block in found]
        outer = plan.around_forward

        @contextmanager
        def around_forward() -> Iterator[None]:
            with outer(), _calling(changed):
                yield

        return replace(plan, around_forward=around_forward)

    def _contexts(self, block: nn.Module) -> Callable[[], Contexts]:
        selective = partial(create_selective_checkpoint_contexts, _policy)
        contexts: Callable[[], Contexts] = selective if self.keeps == "matmul" else noop_context_fn
        has_buffers = next(block.buffers(), None) is not None
        return partial(_moving_buffers_once, block, contexts) if has_buffers else contexts


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


def _checkpointed(block: nn.Module, contexts: Callable[[], Contexts]) -> Callable[..., Any]:
    """RReLU saves the memory of its numbers before they are drawn: torch would stop there, where it comes last."""
    forward = block.forward
    draws_late = any(isinstance(module, nn.RReLU) for module in block.modules())

    def call(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        with set_checkpoint_early_stop(False) if draws_late else nullcontext():
            return checkpoint(forward, *args, use_reentrant=False, context_fn=contexts, **kwargs)

    return call


def _moving_buffers_once(block: nn.Module, contexts: Callable[[], Contexts]) -> Contexts:
    """What is computed again moves no statistics: BatchNorm has counted the batch in the forward pass."""
    moved: list[nn.Module] = []
    first, again = contexts()
    return _both(_noting_moved(block, moved), first), _both(_leaving_buffers(moved), again)


@contextmanager
def _noting_moved(block: nn.Module, moved: list[nn.Module]) -> Iterator[None]:
    """Which modules have changed their buffers; torch does not count the changes that normalizing makes."""
    before = {module: _versions(module) for module in block.modules()}
    yield
    moved += [each for each, versions in before.items() if versions != _versions(each) or counts_batches(each)]


def _versions(module: nn.Module) -> list[tuple[int, int]]:
    return [(id(buffer), buffer._version) for buffer in own_buffers(module).values() if buffer is not None]


@contextmanager
def _leaving_buffers(modules: list[nn.Module]) -> Iterator[None]:
    """What is changed meanwhile are copies."""
    kept = [(own_buffers(module), dict(own_buffers(module))) for module in modules]
    for buffers, own in kept:
        buffers.update({name: None if buffer is None else buffer.clone() for name, buffer in own.items()})
    try:
        yield
    finally:
        for buffers, own in kept:
            buffers.update(own)


@contextmanager
def _both(one: AbstractContextManager[Any], other: AbstractContextManager[Any]) -> Iterator[None]:
    with ExitStack() as contexts:
        contexts.enter_context(one)
        contexts.enter_context(other)
        yield


def _policy(context: Any, operator: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if operator in _EXPENSIVE else CheckpointPolicy.PREFER_RECOMPUTE
