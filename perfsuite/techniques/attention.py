"""``nn.MultiheadAttention`` as separate layers, so that techniques can take hold of its parts.

torch's own module keeps query, key and value in one packed parameter, fixes the head size to
embed_dim / num_heads, and in eval mode hands all of it to a fused kernel that reads the raw weights:
a part that was quantized or removed would be read wrongly, or crash.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perfsuite._compat.torch import NotFusedAttention, has_packed_projection
from perfsuite.errors import ModelError
from perfsuite.techniques.carrying import can_be_replaced, carry
from perfsuite.techniques.common import replace_modules

_PARAMETERS = {
    "in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight", "in_proj_bias", "bias_k", "bias_v", "out_proj",
}  # fmt: skip


class SplitAttention(NotFusedAttention, nn.Module):
    """Takes the place of an ``nn.MultiheadAttention``: same call, same result, four linear layers.

    Shapes: B batch, T and S tokens of query and key, D embed_dim, H heads, E head_dim; (B, T, D) with
    ``batch_first``, else (T, B, D); (T, D) without a batch.
    """

    def __init__(self, source: nn.MultiheadAttention) -> None:
        super().__init__()
        self.embed_dim, self.num_heads, self.head_dim = source.embed_dim, source.num_heads, source.head_dim
        self.dropout, self.batch_first = source.dropout, source.batch_first
        weights = (
            source.in_proj_weight.chunk(3)
            if has_packed_projection(source)
            else (source.q_proj_weight, source.k_proj_weight, source.v_proj_weight)
        )
        biases = (None,) * 3 if source.in_proj_bias is None else source.in_proj_bias.chunk(3)
        self.query, self.key, self.value = map(_linear, weights, biases)
        self.out_proj = _linear(source.out_proj.weight, source.out_proj.bias)
        self.train(source.training)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As ``nn.MultiheadAttention.forward``; ``is_causal`` is a hint there, and the mask is what counts."""
        batched, turned = query.dim() == 3, query.dim() == 3 and not self.batch_first
        projected = self.query(query), self.key(key), self.value(value)
        q, k, v = (self._heads(x, turned) for x in projected)  # (B, H, T, E), (B, H, S, E) twice
        mask = self._mask(attn_mask, key_padding_mask, q)
        mixed, weights = self._attend(q, k, v, mask, need_weights)
        joined = mixed.transpose(1, 2).flatten(2)  # (B, T, H * E)
        y = self.out_proj(joined if batched else joined[0])
        if weights is not None:
            weights = weights.mean(dim=1) if average_attn_weights else weights
            weights = weights if batched else weights[0]
        return (y.transpose(0, 1) if turned else y), weights

    def _heads(self, x: Tensor, turned: bool) -> Tensor:
        x = x if x.dim() == 3 else x.unsqueeze(0)
        x = x.transpose(0, 1) if turned else x
        heads: Tensor = x.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)
        return heads

    def _mask(self, attn_mask: Tensor | None, padding: Tensor | None, q: Tensor) -> Tensor | None:
        """Both masks as one additive mask that broadcasts to (B, H, T, S)."""
        mask = None
        if attn_mask is not None:
            mask = _additive(attn_mask, q.dtype)
            if mask.dim() == 3:
                mask = mask.unflatten(0, (q.shape[0], -1))  # (B * H, T, S)
                if mask.shape[1] != self.num_heads:
                    raise ModelError(
                        f"attn_mask is for {mask.shape[1]} heads, and {self.num_heads} are left",
                        "give one mask for all heads: (T, S)",
                    )
        if padding is not None:
            keys = _additive(padding if padding.dim() == 2 else padding.unsqueeze(0), q.dtype)[:, None, None, :]
            mask = keys if mask is None else mask + keys
        return mask

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, need_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        dropout = self.dropout if self.training else 0.0
        if not need_weights:
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout), None
        scores = q @ k.transpose(-2, -1) * self.head_dim**-0.5  # (B, H, T, S)
        weights = F.dropout((scores if mask is None else scores + mask).softmax(dim=-1), dropout)
        return weights @ v, weights


def split_attention(model: nn.Module) -> nn.Module:
    """Replace every ``nn.MultiheadAttention`` that can be, in place; those with bias_k or add_zero_attn stay.

    What somebody has put on one, such as hooks, is on the one in its place.
    """

    def replace(module: nn.Module) -> nn.Module:
        splits = type(module) is nn.MultiheadAttention and module.bias_k is None and not module.add_zero_attn
        if splits and can_be_replaced(module, ("query", "key", "value"), _PARAMETERS):
            return carry(module, SplitAttention(cast(nn.MultiheadAttention, module)), _PARAMETERS)
        return module

    model = replace_modules(model, replace)
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoder) and any(isinstance(m, SplitAttention) for m in module.modules()):
            module.use_nested_tensor = False  # nested tensors are for the fused kernel alone
    return model


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.detach().clone(), requires_grad=weight.requires_grad)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone(), requires_grad=bias.requires_grad)
    return layer


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A bool mask (True: not attended to) as 0 and -inf, as torch's own has it; a float mask as it is."""
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(mask, -torch.inf)
