"""Where the tokens of a model look: the probabilities that its attention computes, and mostly gives to nobody."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from perfsuite.distillation.watching import Key, Watched, watched

_SOFTMAX = {F.softmax, torch.softmax, Tensor.softmax}


@contextmanager
def attending(model: nn.Module, keys: Iterable[Key]) -> Iterator[Watched]:
    """Log probabilities (B, H, T, S), before dropout, of the last attention in each layer of the model's calls."""
    with watched(model, keys, lambda found, key, output: None) as found, _Attention(found):
        yield found


class _Attention(TorchFunctionMode):
    """Sees the calls that compute attention, of torch's fused function and of softmax over (B, H, T, S)."""

    def __init__(self, found: Watched) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        result = func(*args, **given)
        if self.found.is_called and self.found.current:
            seen = _log_probabilities(func, args, given, result)
            if seen is not None:
                self.found.seen[self.found.current[-1]] = seen
        return result


def _log_probabilities(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> Tensor | None:
    if func is F.scaled_dot_product_attention:
        return _of_product(*args, **kwargs)
    if func in _SOFTMAX and result.dim() == 4:
        probabilities: Tensor = result.float()
        return probabilities.clamp(min=torch.finfo(torch.float32).tiny).log()
    return None


def _of_product(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> Tensor:  # fmt: skip
    """As ``F.scaled_dot_product_attention`` says that it computes them, in float32."""
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], dim=-3)
    scores = query.float() @ key.float().transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    lowest = torch.finfo(scores.dtype).min  # not -inf: a row that sees nothing would become NaN
    if is_causal:
        scores = scores.masked_fill(torch.ones(scores.shape[-2:], device=scores.device).triu(1).bool(), lowest)
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, lowest)
    elif attn_mask is not None:
        scores = (scores + attn_mask).clamp(min=lowest)
    return F.log_softmax(scores, dim=-1)
