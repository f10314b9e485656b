"""``nn.EmbeddingBag`` with int8 rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perfsuite.techniques.common import owns_weight
from perfsuite.techniques.quantization.layers import OnRows, Quantized


def is_bag(module: Any) -> bool:
    """One of torch's own; not with max_norm, which writes to the weight, nor with rows that do not count."""
    plain = type(module) is nn.EmbeddingBag and owns_weight(module)
    return plain and module.max_norm is None and module.padding_idx is None


class Int8EmbeddingBag(OnRows):
    """Codes (V, D) int8, scale (V,). Only the rows that are asked for are made."""

    def __init__(self, source: Any, rows_of: Callable[[nn.Parameter], Quantized]) -> None:
        super().__init__(rows_of(source.weight))
        self.mode, self.include_last_offset = source.mode, source.include_last_offset

    def forward(self, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None) -> Tensor:
        """As ``nn.EmbeddingBag``. Raises IndexError for an id that does not exist."""
        dtype = self.like.dtype
        ids = input.flatten().long()
        scale = F.embedding(ids, self.scale.to(torch.promote_types(dtype, torch.float32)).unsqueeze(-1))  # checks them
        rows = (self.codes[ids] * scale).to(dtype)  # (N, D)
        places = torch.arange(len(ids), device=ids.device).view(input.shape)
        found: Tensor = F.embedding_bag(
            places, rows, None if offsets is None else offsets.long(), mode=self.mode,
            per_sample_weights=per_sample_weights, include_last_offset=self.include_last_offset,
        )  # fmt: skip
        return found

    def extra_repr(self) -> str:
        return f"{self.codes.shape[0]}, {self.codes.shape[1]}, mode={self.mode!r}"
