"""Hypothesis strategies: small real models with their inputs, tensors, sparsities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import hypothesis.strategies as st
import numpy as np
import torch
from torch import Tensor, nn

from perfsuite.models.encoder import Positions, TransformerEncoder
from perfsuite.models.seeding import seeded
from perfsuite.protocols import Inputs


@dataclass(frozen=True)
class Sample:
    """A drawn model with inputs for it."""

    model: nn.Module
    inputs: Inputs
    description: str

    @property
    def data(self) -> list[Inputs]:
        """Calibration data, for techniques that want some."""
        return [self.inputs]

    def __repr__(self) -> str:
        return self.description


class MaskedEncoder(nn.Module):
    """(B, T, C), what is added to attention (T, T), and which tokens are padding (B, T)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(width, heads, 2 * width, 0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)

    def forward(self, x: Tensor, mask: Tensor, padding: Tensor) -> Tensor:
        hidden = torch.zeros_like(padding, dtype=x.dtype).masked_fill(padding, float("-inf"))
        found: Tensor = self.encoder(x, mask, hidden, is_causal=False)  # None would have it look at the mask's values
        return found


class TiedClassifier(nn.Module):
    """Token ids (B, T) to logits (B, T, V); the output layer's weight is the embedding's."""

    def __init__(self, vocab_size: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, width)
        self.hidden = nn.Linear(width, width)
        self.output = nn.Linear(width, vocab_size, bias=False)
        self.output.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.output(torch.tanh(self.hidden(self.embedding(tokens))))
        return logits


def sparsities() -> st.SearchStrategy[float]:
    """Fractions from 0 to 1, the ends and round numbers among them."""
    return st.one_of(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), st.floats(0, 1))


def scales() -> st.SearchStrategy[float]:
    """Magnitudes at which a float32 tensor may live, without subnormals."""
    return st.integers(-60, 60).map(lambda exponent: 2.0**exponent)


@st.composite
def float_tensors(draw: st.DrawFn, max_rows: int = 6, max_columns: int = 40) -> Tensor:
    """Float32 (rows, columns): normal at some scale, with ties, constants, zeros, or subnormals."""
    rows, columns = draw(st.integers(1, max_rows)), draw(st.integers(1, max_columns))
    kind = draw(st.sampled_from(["normal", "ties", "constant", "zero", "subnormal"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    normal = rng.standard_normal((rows, columns))
    values = {
        "normal": normal * draw(scales()),
        "ties": np.round(normal),
        "constant": np.full((rows, columns), draw(st.floats(-1e6, 1e6, width=32))),
        "zero": np.zeros((rows, columns)),
        "subnormal": normal * 1e-40,
    }[kind]
    return torch.from_numpy(values.astype(np.float32))


Kind = Literal["encoder", "torch encoder", "MLP", "convolution", "tied", "masked encoder", "batch norm"]
KINDS: tuple[Kind, ...] = ("encoder", "torch encoder", "MLP", "convolution", "tied")
RUNTIME_KINDS: tuple[Kind, ...] = (*KINDS, "masked encoder", "batch norm")  # and what only a runtime finds hard
_DTYPES = (torch.float32, torch.float32, torch.float64)


@st.composite
def models(
    draw: st.DrawFn, kinds: Sequence[Kind] = KINDS, dtypes: Sequence[torch.dtype] = _DTYPES, *, training: bool = True
) -> Sample:
    """Small models of the kinds that techniques meet, in either mode (or in eval alone), in float32 or float64."""
    seed = draw(st.integers(0, 2**16))
    with seeded(seed):
        model, inputs, description = _MAKERS[draw(st.sampled_from(kinds))](draw)
    model.train(training and draw(st.booleans()))
    dtype = draw(st.sampled_from(dtypes))
    args = tuple(arg.to(dtype) if arg.is_floating_point() else arg for arg in inputs.args)
    described = f"{description} seed={seed} training={model.training} {dtype}"
    return Sample(model.to(dtype), Inputs(args), described)


def _encoder(draw: st.DrawFn) -> tuple[nn.Module, Inputs, str]:
    heads, head_dim = draw(st.sampled_from([1, 2, 4])), draw(st.sampled_from([2, 4, 8]))
    positions: Positions = draw(st.sampled_from(["sinusoidal", "learned", "rotary"]))
    classes, norm_first = draw(st.sampled_from([None, 3])), draw(st.booleans())
    model = TransformerEncoder(
        50, heads * head_dim, heads, draw(st.integers(1, 2)), draw(st.integers(1, 20)), dropout=0.0,
        max_seq_length=16, positional_encoding=positions, num_classes=classes, norm_first=norm_first,
    )  # fmt: skip
    return model, Inputs((torch.randint(0, 50, (2, draw(st.integers(1, 16)))),)), f"encoder {model.config}"


def _torch_encoder(draw: st.DrawFn) -> tuple[nn.Module, Inputs, str]:
    heads, head_dim = draw(st.sampled_from([1, 2, 4])), draw(st.sampled_from([2, 4]))
    batch_first, norm_first = draw(st.booleans()), draw(st.booleans())
    layer = nn.TransformerEncoderLayer(
        heads * head_dim, heads, draw(st.integers(1, 12)), 0.0, batch_first=batch_first, norm_first=norm_first
    )
    model = nn.TransformerEncoder(layer, draw(st.integers(1, 2)), enable_nested_tensor=False)
    x = torch.randn(2, draw(st.integers(1, 5)), heads * head_dim)
    return model, Inputs((x,)), f"torch encoder heads={heads} {head_dim} {batch_first=} {norm_first=}"


def _mlp(draw: st.DrawFn) -> tuple[nn.Module, Inputs, str]:
    width, bias = draw(st.integers(1, 32)), draw(st.booleans())
    model = nn.Sequential(nn.Linear(8, width, bias=bias), nn.ReLU(), nn.Linear(width, 5))
    return model, Inputs((torch.randn(3, 8),)), f"MLP width={width} bias={bias}"


def _convolution(draw: st.DrawFn) -> tuple[nn.Module, Inputs, str]:
    """Of few inputs, or of as many as products of integers are worth it for."""
    channels, inputs = draw(st.integers(1, 8)), draw(st.sampled_from([1, 64]))
    model = nn.Sequential(nn.Conv2d(inputs, channels, 3), nn.ReLU(), nn.Flatten(), nn.Linear(channels * 16, 4))
    return model, Inputs((torch.randn(2, inputs, 6, 6),)), f"convolution {inputs=} channels={channels}"


def _tied(draw: st.DrawFn) -> tuple[nn.Module, Inputs, str]:
    width = draw(st.integers(2, 16))
    return TiedClassifier(30, width), Inputs((torch.randint(0, 30, (2, 5)),)), f"tied classifier width={width}"


def _masked_encoder(draw: st.DrawFn) -> tuple[nn.Module, Inputs, str]:
    heads, batch, length = draw(st.sampled_from([1, 2])), draw(st.integers(1, 3)), draw(st.integers(1, 5))
    mask = torch.full((length, length), float("-inf")).triu(1)
    padding = torch.arange(length) >= torch.randint(1, length + 1, (batch, 1))
    inputs = Inputs((torch.randn(batch, length, 4 * heads), mask, padding))
    return MaskedEncoder(4 * heads, heads), inputs, f"masked encoder heads={heads} {batch=} {length=}"


def _batch_norm(draw: st.DrawFn) -> tuple[nn.Module, Inputs, str]:
    """With statistics that are not those of a fresh layer."""
    channels, batch = draw(st.integers(1, 4)), draw(st.integers(1, 2))
    layers = [nn.Conv2d(3, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels, 4))
    model(torch.randn(4, 3, 5, 5))
    return model, Inputs((torch.randn(batch, 3, 5, 5),)), f"batch norm channels={channels} {batch=}"


_MAKERS = {
    "masked encoder": _masked_encoder,
    "batch norm": _batch_norm,
    "encoder": _encoder,
    "torch encoder": _torch_encoder,
    "MLP": _mlp,
    "convolution": _convolution,
    "tied": _tied,
}
