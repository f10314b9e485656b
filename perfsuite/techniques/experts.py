"""Mixtures of experts whose weights are one tensor for all (Mixtral, Qwen3-MoE), as separate layers.

Techniques can then take hold of each expert, as of any linear layer. The weights are the same memory.
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

from perfsuite._compat.torch import own_parameters
from perfsuite._compat.transformers import FusedExperts, fused_experts
from perfsuite.techniques.carrying import can_be_replaced, carry
from perfsuite.techniques.common import replace_modules

_TOKENS = 16  # of the call that proves that both compute the same
_CLOSE = {torch.float64: 1e-9, torch.float32: 1e-3}  # relative to the norm; half precision rounds between the layers
_CLOSE_IN_HALF = 5e-2
_OURS = ("between", "arguments", "like", "expand", "reduce")


class SplitExperts(nn.Module):
    """Takes the place of a module with fused experts: same call, same result, two linear layers for each expert.

    Shapes: N tokens, H hidden size, E experts, K of them for each token; (N, H) to (N, H).
    """

    def __init__(self, source: nn.Module, fused: FusedExperts) -> None:
        super().__init__()
        self.num_experts = len(fused.expand)
        self.between, self.arguments = fused.between, fused.arguments
        self.like = _without_weights(source)  # its activation, and how it uses it
        self.expand = _layers(fused.expand, fused.expand_bias, fused.transposed)
        self.reduce = _layers(fused.reduce, fused.reduce_bias, fused.transposed)
        self.train(source.training)

    def forward(self, *args: Tensor, **kwargs: Tensor) -> Tensor:
        """Of hidden states (N, H), the experts of each token (N, K), and how much each of them counts (N, K)."""
        x, chosen, share = (*args, *(kwargs[name] for name in self.arguments[len(args) :]))
        between = getattr(self.like, self.between)
        result = torch.zeros_like(x)
        for expert in chosen.unique().tolist():
            if expert >= self.num_experts:  # stands for none
                continue
            token, place = torch.where(chosen == expert)
            y = self.reduce[expert](between(self.expand[expert](x[token])))
            result.index_add_(0, token, (y * share[token, place, None]).to(result.dtype))
        return result


def split_experts(model: nn.Module, names: Collection[str] | None = None) -> tuple[str, ...]:
    """Replace fused experts, in place; their names. Without names, all of which a seeded call shows that this is right.

    What somebody has put on such a module, such as hooks, is on the one in its place.
    """
    known = {module: name for name, module in model.named_modules()}
    done: list[str] = []

    def replace(module: nn.Module) -> nn.Module:
        name = known.get(module)  # empty for the model itself, which cannot be replaced in place
        fused = fused_experts(module) if name and (names is None or name in names) else None
        consumed = _names(module, fused) if fused is not None else set()
        if fused is None or own_parameters(module).keys() - consumed or not can_be_replaced(module, _OURS, consumed):
            return module
        split = SplitExperts(module, fused)
        if names is None and not _computes_the_same(module, split, fused):
            return module
        done.append(known[module])
        return carry(module, split, consumed)

    replace_modules(model, replace)
    return tuple(done)


def _names(module: nn.Module, fused: FusedExperts) -> set[str]:
    known = {id(tensor) for tensor in (fused.expand, fused.expand_bias, fused.reduce, fused.reduce_bias)}
    return {name for name, tensor in own_parameters(module).items() if id(tensor) in known}


def _without_weights(source: nn.Module) -> nn.Module:
    shell = copy.copy(source)
    object.__setattr__(shell, "_parameters", {})
    return shell


def _layers(weights: nn.Parameter, biases: nn.Parameter | None, transposed: bool) -> nn.ModuleList:
    """(E, O, I) or transposed, and (E, O) or None, as layers that see their part of it."""
    layers = nn.ModuleList()
    for number, weight in enumerate(weights.detach().mT if transposed else weights.detach()):
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=biases is not None, device="meta")
        layer.weight = nn.Parameter(weight, requires_grad=weights.requires_grad)
        if biases is not None:
            layer.bias = nn.Parameter(biases.detach()[number], requires_grad=biases.requires_grad)
        layers.append(layer)
    return layers


def _computes_the_same(module: Any, split: SplitExperts, fused: FusedExperts) -> bool:
    weight = fused.expand
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(_TOKENS, fused.hidden_size, generator=generator).to(weight)
    chosen = torch.rand(_TOKENS, split.num_experts, generator=generator).topk(min(2, split.num_experts))
    index, share = chosen.indices.to(weight.device), chosen.values.to(weight)
    try:
        with torch.no_grad():
            expected, found = module(x, index, share).double(), split(x, index, share).double()
    except Exception:  # a module that is called in another way than it says
        return False
    bound = _CLOSE.get(weight.dtype, _CLOSE_IN_HALF)
    return bool((found - expected).norm() <= bound * expected.norm())
