"""The reference transformer encoder, to be read at one sitting.

Vaswani et al. 2017, "Attention is all you need" (post-norm, sinusoidal positions); Xiong et al.
2020 (pre-norm); Devlin et al. 2018 (learned positions); Su et al. 2021, "RoFormer" (rotary
positions). With the same weights it equals ``torch.nn.TransformerEncoder`` where both define the
same thing (tests/models/test_encoder.py).

Shapes: B batch, T tokens, D d_model, H heads, E = D/H, F d_ff, C classes.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perfsuite.errors import UsageError

Positions = Literal["sinusoidal", "learned", "rotary"]


@dataclass(frozen=True)
class EncoderConfig:
    """Everything that a ``TransformerEncoder`` is built from; plain numbers and strings only."""

    vocab_size: int
    d_model: int
    num_heads: int | tuple[int, ...]
    num_layers: int
    d_ff: int | tuple[int, ...]
    dropout: float = 0.1
    max_seq_length: int = 512
    positional_encoding: Positions = "sinusoidal"
    num_classes: int | None = None
    norm_first: bool = False
    activation: Literal["relu", "gelu"] = "gelu"
    head_dim: int | None = None  # d_model / num_heads unless heads were removed

    def __post_init__(self) -> None:
        self._check_sizes()
        if self.positional_encoding not in ("sinusoidal", "learned", "rotary"):
            raise UsageError(
                f"unknown positional_encoding {self.positional_encoding!r}", "use sinusoidal, learned or rotary"
            )
        if self.activation not in ("relu", "gelu"):
            raise UsageError(f"unknown activation {self.activation!r}", "use relu or gelu")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"dropout is {self.dropout}", "use a probability of at least 0 and below 1")
        if self.positional_encoding == "rotary" and self.head_size % 2:
            raise UsageError(f"rotary positions need an even head size, not {self.head_size}", "choose another")

    def _check_sizes(self) -> None:
        for name in ("vocab_size", "d_model", "num_heads", "num_layers", "d_ff", "max_seq_length", "head_dim"):
            value = getattr(self, name)
            if value is not None and min(value if isinstance(value, tuple) else (value,), default=0) < 1:
                raise UsageError(f"{name} is {value}", f"{name} must be at least 1")
        for name in ("num_heads", "d_ff"):
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) != self.num_layers:
                raise UsageError(f"{name} has {len(value)} numbers for {self.num_layers} layers", "give one for each")
        if self.head_dim is None and (isinstance(self.num_heads, tuple) or self.d_model % self.num_heads):
            raise UsageError(
                f"d_model {self.d_model} cannot be divided among {self.num_heads} heads",
                "choose a multiple, or give head_dim",
            )

    @property
    def head_size(self) -> int:
        """The width E of one head."""
        if self.head_dim is not None:
            return self.head_dim
        assert isinstance(self.num_heads, int)
        return self.d_model // self.num_heads

    def heads_of(self, layer: int) -> int:
        return self.num_heads[layer] if isinstance(self.num_heads, tuple) else self.num_heads

    def units_of(self, layer: int) -> int:
        """The feed-forward width F of one layer."""
        return self.d_ff[layer] if isinstance(self.d_ff, tuple) else self.d_ff


class TransformerEncoder(nn.Module):
    """Token ids (B, T) to hidden states (B, T, D), or to logits (B, C) with a classification head.

    Args:
        vocab_size: number of token ids.
        d_model: width D of the hidden states.
        num_heads: attention heads H; must divide ``d_model``. A tuple gives each layer its own number.
        num_layers: encoder layers.
        d_ff: width F of the feed-forward layers, or one for each.
        dropout: probability of dropping an activation while training.
        max_seq_length: longest T.
        positional_encoding: "sinusoidal", "learned" or "rotary".
        num_classes: with a number, mean-pooled hidden states go through a linear head.
        norm_first: normalise before each sublayer (pre-norm) instead of after it.
        activation: of the feed-forward layers, "gelu" or "relu".
        head_dim: width E of a head, where it is not ``d_model / num_heads`` (heads were removed).

    Raises:
        UsageError: a size below 1, heads that do not divide ``d_model``, an unknown name.
    """

    def __init__(
        self,
        vocab_size: int,
        d_model: int,
        num_heads: int | tuple[int, ...],
        num_layers: int,
        d_ff: int | tuple[int, ...],
        dropout: float = 0.1,
        max_seq_length: int = 512,
        positional_encoding: Positions = "sinusoidal",
        num_classes: int | None = None,
        norm_first: bool = False,
        activation: Literal["relu", "gelu"] = "gelu",
        head_dim: int | None = None,
    ) -> None:
        super().__init__()
        self.config = config = EncoderConfig(
            vocab_size, d_model, num_heads, num_layers, d_ff, dropout, max_seq_length,
            positional_encoding, num_classes, norm_first, activation, head_dim,
        )  # fmt: skip
        self.embedding = nn.Embedding(vocab_size, d_model)
        nn.init.normal_(self.embedding.weight, std=d_model**-0.5)  # unit variance once scaled, as positions have
        self.position = _absolute_position(config)
        self.rotary = RotaryPosition(config.head_size, max_seq_length) if positional_encoding == "rotary" else None
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(EncoderLayer(config, number) for number in range(num_layers))
        self.norm = nn.LayerNorm(d_model) if norm_first else None
        self.head = nn.Linear(d_model, num_classes) if num_classes is not None else None

    @classmethod
    def from_config(cls, config: EncoderConfig | dict[str, Any]) -> TransformerEncoder:
        """Build from a config, or from the dict that ``asdict`` made of one."""
        fields: dict[str, Any] = config if isinstance(config, dict) else asdict(config)
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}  # of JSON
        return cls(**values)

    def sync_config(self) -> None:
        """Make the config say what the layers are, after layers were removed, or heads or units from some."""
        layers: list[Any] = list(self.layers)
        heads = tuple(layer.attention.num_heads for layer in layers)
        units = tuple(layer.feed_forward.expand.out_features for layer in layers)
        if heads == tuple(map(self.config.heads_of, range(len(heads)))):
            head_dim = self.config.head_dim
        else:
            head_dim = self.config.head_size
        self.config = replace(
            self.config,
            num_layers=len(layers),
            num_heads=_one_if_equal(heads),
            d_ff=_one_if_equal(units),
            head_dim=head_dim,
        )

    def forward(self, tokens: Tensor, key_padding_mask: Tensor | None = None) -> Tensor:
        """Encode.

        Args:
            tokens: (B, T) integer ids, T at most ``max_seq_length``.
            key_padding_mask: (B, T) bool, True where a token is padding and must not be attended to.

        Raises:
            UsageError: T is longer than ``max_seq_length``.
        """
        if tokens.shape[1] > self.config.max_seq_length:
            raise UsageError(
                f"{tokens.shape[1]} tokens are more than max_seq_length {self.config.max_seq_length}",
                "shorten the input, or build the encoder with a larger max_seq_length",
            )
        x: Tensor = self.embedding(tokens) * math.sqrt(self.config.d_model)  # (B, T, D)
        if self.position is not None:
            x = x + self.position(tokens.shape[1])
        x = self.dropout(x)
        mask = None if key_padding_mask is None else additive_mask(key_padding_mask, x.dtype)
        for layer in self.layers:
            x = layer(x, mask, self.rotary)
        if self.norm is not None:
            x = self.norm(x)
        if self.head is not None:
            x = self.head(mean_pool(x, key_padding_mask))
        return x


class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward network, each with a residual and a LayerNorm."""

    def __init__(self, config: EncoderConfig, number: int) -> None:
        super().__init__()
        self.norm_first = config.norm_first
        self.attention = SelfAttention(config.d_model, config.heads_of(number), config.head_size, config.dropout)
        self.attention_norm = nn.LayerNorm(config.d_model)
        self.feed_forward = FeedForward(config, config.units_of(number))
        self.feed_forward_norm = nn.LayerNorm(config.d_model)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor | None, rotary: RotaryPosition | None) -> Tensor:
        if self.norm_first:
            x = x + self.dropout(self.attention(self.attention_norm(x), mask, rotary))
            x = x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
        else:
            x = self.attention_norm(x + self.dropout(self.attention(x, mask, rotary)))
            x = self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))
        return x


class SelfAttention(nn.Module):
    """Multi-head self-attention; ``num_heads`` and ``head_dim`` belong to the layer, so layers may differ."""

    def __init__(self, d_model: int, num_heads: int, head_dim: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.dropout = dropout
        width = num_heads * head_dim  # d_model, unless heads were removed
        self.query = nn.Linear(d_model, width)
        self.key = nn.Linear(d_model, width)
        self.value = nn.Linear(d_model, width)
        self.output = nn.Linear(width, d_model)

    def forward(self, x: Tensor, mask: Tensor | None, rotary: RotaryPosition | None) -> Tensor:
        q, k, v = (self._split(projection(x)) for projection in (self.query, self.key, self.value))
        if rotary is not None:
            q, k = rotary(q), rotary(k)
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)  # (B, H, T, E)
        joined: Tensor = self.output(mixed.transpose(1, 2).flatten(2))  # (B, T, D)
        return joined

    def _split(self, x: Tensor) -> Tensor:
        return torch.unflatten(x, -1, (self.num_heads, self.head_dim)).transpose(1, 2)  # (B, H, T, E)


class FeedForward(nn.Module):
    """Two linear layers with an activation and dropout between them."""

    def __init__(self, config: EncoderConfig, units: int) -> None:
        super().__init__()
        self.expand = nn.Linear(config.d_model, units)
        self.contract = nn.Linear(units, config.d_model)
        self.activation = nn.GELU() if config.activation == "gelu" else nn.ReLU()
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.contract(self.dropout(self.activation(self.expand(x))))  # (B, T, F) inside
        return y


class SinusoidalPosition(nn.Module):
    """Fixed positions: sin and cos of geometrically spaced frequencies (Vaswani et al. 2017, 3.5)."""

    def __init__(self, d_model: int, max_seq_length: int) -> None:
        super().__init__()
        angle = _angles(d_model, max_seq_length)  # (T, ceil(D/2))
        table = torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1)[:, :d_model]  # (T, D), sin and cos in turn
        self.table: Tensor
        self.register_buffer("table", table, persistent=False)

    def forward(self, length: int) -> Tensor:
        return self.table[:length]


class LearnedPosition(nn.Module):
    """One trained vector for each position."""

    def __init__(self, d_model: int, max_seq_length: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(max_seq_length, d_model).normal_(std=0.5))

    def forward(self, length: int) -> Tensor:
        return self.table[:length]


class RotaryPosition(nn.Module):
    """Rotates queries and keys by an angle that grows with the position (Su et al. 2021)."""

    def __init__(self, head_dim: int, max_seq_length: int) -> None:
        super().__init__()
        angle = _angles(head_dim, max_seq_length)  # (T, E/2)
        self.cos: Tensor
        self.sin: Tensor
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[-2]
        cos, sin = self.cos[:length], self.sin[:length]
        a, b = x.chunk(2, dim=-1)  # (B, H, T, E/2) each: a pair (a_i, b_i) is one plane
        return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)


def additive_mask(key_padding_mask: Tensor, dtype: torch.dtype) -> Tensor:
    """(B, T) bool, True = padding, to (B, 1, 1, T) of 0 and the dtype's lowest number.

    Not -inf: a row that is all padding would become NaN and spread.
    """
    mask = torch.zeros(key_padding_mask.shape, dtype=dtype, device=key_padding_mask.device)
    return mask.masked_fill(key_padding_mask, torch.finfo(dtype).min)[:, None, None, :]


def mean_pool(x: Tensor, key_padding_mask: Tensor | None) -> Tensor:
    """(B, T, D) to (B, D): the mean over tokens that are not padding."""
    if key_padding_mask is None:
        return x.mean(dim=1)
    keep = (~key_padding_mask).to(x.dtype).unsqueeze(-1)  # (B, T, 1)
    return (x * keep).sum(dim=1) / keep.sum(dim=1).clamp(min=1)


def create_test_transformer(size: Literal["small", "medium"] = "medium") -> TransformerEncoder:
    """The two documented sizes, with fresh random weights: "small" and "medium"."""
    match size:
        case "small":
            return TransformerEncoder(10_000, 128, 4, 2, 512)
        case "medium":
            return TransformerEncoder(30_000, 512, 8, 4, 1024)
        case _:
            raise UsageError(f"unknown size {size!r}", "use 'small' or 'medium'")


def _one_if_equal(numbers: tuple[int, ...]) -> int | tuple[int, ...]:
    return numbers[0] if len(set(numbers)) == 1 else numbers


def _absolute_position(config: EncoderConfig) -> nn.Module | None:
    match config.positional_encoding:
        case "sinusoidal":
            return SinusoidalPosition(config.d_model, config.max_seq_length)
        case "learned":
            return LearnedPosition(config.d_model, config.max_seq_length)
        case "rotary":
            return None


def _angles(width: int, length: int) -> Tensor:
    """(length, ceil(width/2)): position times 10000^(-2i/width)."""
    frequency = 10_000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    return torch.outer(torch.arange(length, dtype=torch.float64), frequency).to(torch.get_default_dtype())
