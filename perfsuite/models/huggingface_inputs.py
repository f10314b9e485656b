"""Inputs for models of transformers, made of what their configs and their forward passes say: text, images, sound."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from perfsuite.errors import ModelError, first_line
from perfsuite.models.devices import device_of
from perfsuite.models.seeding import seeded, token_ids

_POSITIONS = (
    "max_position_embeddings", "n_positions", "max_target_positions", "max_seq_len", "max_encoder_position_embeddings",
    "max_decoder_position_embeddings",
)  # fmt: skip
_IMAGE, _CHANNELS = 224, 3  # where a config says nothing: a convolution takes any size
_RATE = 16_000  # samples a second; one second of sound
_FRAMES = 200  # of features of sound, where their number is free
_REMEDY = "register it as a model of its own, with an inputs function (docs/extending.md)"


def inputs_for(module: nn.Module, batch_size: int, length: int, seed: int) -> dict[str, Any]:
    """Seeded keywords of one call: at most ``length`` tokens, one image, one second of sound for each example.

    Raises ModelError for a model that reads something else.
    """
    config: Any = getattr(module, "config", None)
    main = getattr(module, "main_input_name", "")
    if config is None or main not in _MAKERS:
        raise ModelError(f"{type(module).__name__} reads {main!r}, for which no inputs are known", _REMEDY)
    taken = inspect.signature(type(module).forward).parameters
    made: dict[str, Any] = {}
    for name in (main, *_beside(main, config, taken)):
        made |= _MAKERS[name](module, batch_size, length, seed)
    if _decodes(config) and "decoder_input_ids" in taken:
        made["decoder_input_ids"] = _ids(
            _text_config(config, "decoder"), module, batch_size, length, (seed + 1) % 2**32
        )
    return {name: value for name, value in made.items() if name in taken}


def check_inputs(module: nn.Module, length: int) -> None:
    """Raises ModelError for a model that cannot be called with the inputs that are made for it."""
    made = inputs_for(module, 2, length, 0)
    try:
        with torch.no_grad(), seeded(0):
            module(**{name: value.to(device_of(module)) for name, value in made.items()})
    except Exception as error:  # forward passes raise anything
        given = ", ".join(f"{name} {tuple(value.shape)}" for name, value in made.items())
        raise ModelError(
            f"{type(module).__name__} cannot be called with {given}: {first_line(error)}", _REMEDY
        ) from error


def _beside(main: str, config: Any, taken: Any) -> Iterator[str]:
    """What is read together with the main input: of a model of texts and images, both.

    Where places in the text stand for images, a text without any is complete.
    """
    both = all(getattr(config, part, None) is not None for part in ("text_config", "vision_config"))
    places = any(getattr(config, name, None) is not None for name in ("image_token_id", "image_token_index"))
    for name in ("input_ids", "pixel_values"):
        if both and not places and name != main and name in taken:
            yield name


def _decodes(config: Any) -> bool:
    return bool(getattr(config, "is_encoder_decoder", False))


def _text(module: Any, batch_size: int, length: int, seed: int) -> dict[str, Tensor]:
    """Random token ids (B, T) and a full attention mask."""
    config = _text_config(module.config, "encoder")
    ids = _ids(config, module, batch_size, length, seed)
    end = getattr(config, "eos_token_id", None)
    if _decodes(module.config) and isinstance(end, int):  # classifiers look at the last token, and want one end in each
        ids[ids == end] = end - 1 if end else 1
        ids[:, -1] = end
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _ids(config: Any, module: Any, batch_size: int, length: int, seed: int) -> Tensor:
    vocab_size = getattr(config, "vocab_size", None)
    if not isinstance(vocab_size, int):
        raise ModelError(f"{type(module).__name__} has no vocab_size: it does not read tokens", _REMEDY)
    ids = token_ids(vocab_size, batch_size, max(1, min(length, longest(module, config))), seed)
    for name in ("image_token_id", "image_token_index", "video_token_id", "audio_token_id"):
        place = getattr(module.config, name, None)
        if isinstance(place, int):
            ids[ids == place] = 0
    return ids


def _text_config(config: Any, side: str) -> Any:
    """That of the part which reads tokens, on the side of the encoder or the decoder."""
    parts = [*_parts(config, side, "text_config"), config]
    return next((part for part in parts if isinstance(getattr(part, "vocab_size", None), int)), config)


def longest(module: Any, config: Any) -> int:
    """How many tokens there are positions for. RoBERTa and its kin count positions from beyond the padding's."""
    limits = [getattr(config, name, None) for name in _POSITIONS]
    known = [limit for limit in limits if isinstance(limit, int) and limit > 0]
    for name, table in module.named_modules():
        padding: Any = getattr(table, "padding_idx", None)
        if name.endswith("position_embeddings") and padding is not None:
            known.append(len(table.weight) - padding - 1)
    return min(known, default=2**31)


def _images(module: Any, batch_size: int, length: int, seed: int) -> dict[str, Tensor]:
    """(B, C, H, W), or (B, T, C, H, W) for a model of films."""
    parts = [module.config, *_parts(module.config, "vision_config", "encoder", "backbone_config")]
    size, frames = _first(parts, "image_size"), _first(parts, "num_frames")
    channels = _first(parts, "num_channels")
    shape = [batch_size, channels if isinstance(channels, int) else _CHANNELS, *_height_and_width(size)]
    if isinstance(frames, int):
        shape.insert(1, frames)
    return {"pixel_values": _noise(shape, seed)}


def _height_and_width(size: Any) -> tuple[int, int]:
    if isinstance(size, int):
        return size, size
    if isinstance(size, list | tuple) and len(size) == 2:
        return int(size[0]), int(size[1])
    return _IMAGE, _IMAGE


def _sound(module: Any, batch_size: int, length: int, seed: int) -> dict[str, Tensor]:
    """Samples (B, N) or (B, C, N), or a spectrum (B, T, F) for a model that reads that under the same name."""
    parts = [module.config, *_parts(module.config, "audio_config", "encoder")]
    bins, channels = _first(parts, "num_mel_bins"), _first(parts, "audio_channels")
    if isinstance(bins, int):
        return {"input_values": _noise([batch_size, _first(parts, "max_length") or _FRAMES, bins], seed)}
    samples = _first(parts, "sampling_rate") or _RATE
    shape = [batch_size, channels, samples] if isinstance(channels, int) else [batch_size, samples]
    return {"input_values": _noise(shape, seed)}


def _spectrum(module: Any, batch_size: int, length: int, seed: int) -> dict[str, Tensor]:
    """(B, F, 2T) for Whisper, which reads all of its T positions; (B, T, F) for others."""
    parts = [module.config, *_parts(module.config, "audio_config", "encoder")]
    bins, positions = _first(parts, "num_mel_bins"), _first(parts, "max_source_positions")
    width = _first(parts, "feature_projection_input_dim") or _first(parts, "input_feat_per_channel") or bins
    if not isinstance(width, int):
        raise ModelError(f"the config of {type(module).__name__} does not say how wide its sound is", _REMEDY)
    if width == bins and isinstance(positions, int):
        return {"input_features": _noise([batch_size, bins, 2 * positions], seed)}
    return {"input_features": _noise([batch_size, _FRAMES, width], seed)}


def _parts(config: Any, *names: str) -> list[Any]:
    return [part for name in names if (part := getattr(config, name, None)) is not None]


def _first(parts: list[Any], name: str) -> Any:
    return next((value for part in parts if (value := getattr(part, name, None)) is not None), None)


def _noise(shape: list[int], seed: int) -> Tensor:
    with seeded(seed):
        return torch.randn(*shape)


_MAKERS: dict[str, Callable[[Any, int, int, int], dict[str, Tensor]]] = {
    "input_ids": _text,
    "pixel_values": _images,
    "input_values": _sound,
    "input_features": _spectrum,
}
