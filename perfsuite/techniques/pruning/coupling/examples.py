"""Inputs to follow a model with: calibration data, what a Hugging Face model says of itself, what its layers take."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from perfsuite.protocols import Inputs
from perfsuite.techniques.common import sharing_parameters

_MOST_TRIED = 80
_CORNER = 32  # pixels: enough for most networks, and fast in float64
_SIZES = (32, 28, 64, 16, 224, 96, 48, *(n for n in range(4, 34) if n not in (16, 28, 32)))
_LENGTHS = (8, 16, 32, 5, 10, 4, 64)


def example_for(model: nn.Module, given: Inputs | None) -> Inputs | None:
    """Inputs that the model can be called with; None where none is known. ``given`` is calibration data."""
    mine = [_small(_few(given)), _few(given), given] if given is not None and _is_usable(given) else []
    weight = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(1))
    candidates = itertools.chain(mine, (in_dtype(weight.dtype, guess) for guess in _guesses(model)))
    copied = sharing_parameters(model).eval()
    for inputs in itertools.islice(candidates, _MOST_TRIED):
        if runs(copied, inputs.to(weight.device)):
            return inputs.to(weight.device)
    return None


def _is_usable(inputs: Inputs) -> bool:
    """Whether there is something in it, and no NaN, of which everything would be NaN."""
    tensors = [value for value in (*inputs.args, *inputs.kwargs.values()) if isinstance(value, Tensor)]
    return all(t.numel() and not bool(t.isnan().any()) for t in tensors)


def runs(model: nn.Module, inputs: Inputs) -> bool:
    try:
        with torch.no_grad():
            model(*inputs.args, **inputs.kwargs)
    except Exception:  # the model's own code on inputs that may be wrong for it
        return False
    return True


def variants(inputs: Inputs) -> Iterator[Inputs]:
    """The same inputs of other sizes, the more unlike first: fewer examples, shorter ones. Not all models take them."""
    fewer = _mapped(inputs, lambda t: t[:1] if t.dim() else t)
    lengths = _sizes(inputs, 1)
    if len(lengths) == 1 and min(lengths) > 2:
        yield _mapped(fewer, lambda t: t[:, :-1] if t.dim() > 1 else t)
    if _sizes(inputs, 0) - {1}:
        yield fewer


def _sizes(inputs: Inputs, dim: int) -> set[int]:
    tensors = (*inputs.args, *inputs.kwargs.values())
    return {t.shape[dim] for t in tensors if isinstance(t, Tensor) and t.dim() > dim}


def in_dtype(dtype: torch.dtype, inputs: Inputs) -> Inputs:
    """The same with all floating-point numbers in that dtype."""
    return _mapped(inputs, lambda t: t.to(dtype) if t.is_floating_point() else t)


def _mapped(inputs: Inputs, change: Any) -> Inputs:
    def of(value: Any) -> Any:
        return change(value) if isinstance(value, Tensor) else value

    return Inputs(tuple(map(of, inputs.args)), {name: of(value) for name, value in inputs.kwargs.items()})


def _few(inputs: Inputs) -> Inputs:
    """Two examples of a batch are enough."""
    return _mapped(inputs, lambda t: t[:2] if t.dim() else t) if len(_sizes(inputs, 0)) == 1 else inputs


def _small(inputs: Inputs) -> Inputs:
    """The corners of large images."""
    return _mapped(inputs, lambda t: t[..., :_CORNER, :_CORNER] if t.dim() == 4 and min(t.shape[2:]) > 96 else t)


def _guesses(model: nn.Module) -> Iterator[Inputs]:
    yield from _of_transformers(model)
    parameters = inspect.signature(model.forward).parameters.values()
    required = [
        p for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    taken = _taken(model)
    for chosen in itertools.product(taken, repeat=max(1, len(required))):
        yield Inputs(chosen)


def _taken(model: nn.Module) -> list[Tensor]:
    """Tensors that layers of the model take, the first layers first."""
    shapes: dict[Any, None] = {}
    sized: dict[Any, None] = {}
    for module in model.modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            shapes["ids", 2, 6, min(module.num_embeddings, 1000)] = None
        elif isinstance(module, nn.modules.conv._ConvNd) and not module.transposed:
            dims = len(module.kernel_size)
            for size in _SIZES if dims > 1 else _LENGTHS:
                (shapes if size in (32, 8) else sized)[(2, module.in_channels, *[size] * dims)] = None
        elif isinstance(module, nn.Linear):
            shapes[2, module.in_features] = shapes[2, 6, module.in_features] = None
        elif isinstance(module, nn.RNNBase | nn.RNNCellBase):
            shapes[2, 6, module.input_size] = shapes[2, module.input_size] = None
    return [_tensor(shape) for shape in (*list(shapes)[:12], *sized)]


def _tensor(shape: Any) -> Tensor:
    return torch.randint(0, shape[3], shape[1:3]) if shape[0] == "ids" else torch.randn(shape)


def _of_transformers(model: nn.Module) -> Iterator[Inputs]:
    """By the name of what a Hugging Face model takes, of the sizes that its config says."""
    if not type(model).__module__.startswith("transformers."):
        return
    loose: Any = model
    config, name = loose.config, getattr(loose, "main_input_name", "input_ids")
    ids = torch.randint(0, min(getattr(config, "vocab_size", 100), 1000), (2, 8))
    if name == "pixel_values":
        yield from (Inputs(kwargs={name: image}) for image in _images(config))
    elif name in ("input_values", "input_features"):
        bins = getattr(config, "num_mel_bins", 80)
        length = 2 * getattr(config, "max_source_positions", 500)
        heard = torch.randn(2, 4000) if name == "input_values" else torch.randn(2, bins, length)
        yield Inputs(kwargs={name: heard, "decoder_input_ids": ids})
        yield Inputs(kwargs={name: heard})
    yield Inputs(kwargs={"input_ids": ids})
    yield Inputs(kwargs={"input_ids": ids, "decoder_input_ids": ids})


def _images(config: Any) -> Iterator[Tensor]:
    own, channels = getattr(config, "image_size", None), getattr(config, "num_channels", 3)
    sizes = {32, 64, 224, own if isinstance(own, int) else 64}
    for size in sorted(sizes, key=lambda size: abs(size - _CORNER)):
        yield torch.randn(2, channels, size, size)
        if hasattr(config, "num_frames"):
            yield torch.randn(1, config.num_frames, channels, size, size)
