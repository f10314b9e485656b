"""What a model can be called on to see what a technique has made of it: given data, or what the model itself says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from perfsuite.models.devices import device_of
from perfsuite.protocols import Inputs

if TYPE_CHECKING:
    from perfsuite.techniques.recorded import Digested


def examples(model: nn.Module, data: Digested) -> Iterator[tuple[str, Inputs]]:
    """Inputs on the model's device, the best first, each with what it is; a model may refuse some of them.

    Nothing is inferred of a model that says nothing: what it takes, nobody knows.
    """
    device = device_of(model)
    first = data.first()
    if first is not None:
        yield "the first batch of the data", first.to(device)
    said = _said_by(model)
    if said:
        yield "its dummy_inputs", Inputs(kwargs=said).to(device)
    main = _main_input(model)
    if main:
        yield f"seeded {next(iter(main))}", Inputs(kwargs=main).to(device)


def _said_by(model: Any) -> dict[str, Tensor]:
    """Hugging Face's ``dummy_inputs``: ids of tokens, those of the decoder, too, where there is one."""
    try:
        said = dict(getattr(model, "dummy_inputs", None) or {})
    except Exception:  # a property may raise anything
        return {}
    config = getattr(model, "config", None)
    vocabulary = getattr(config, "vocab_size", None)
    ids = said.get("input_ids")
    if isinstance(ids, Tensor) and isinstance(vocabulary, int) and vocabulary > 0:
        said["input_ids"] = ids % vocabulary
        if getattr(config, "is_encoder_decoder", False):
            said.setdefault("decoder_input_ids", ids % vocabulary)
    return said if all(isinstance(value, Tensor) for value in said.values()) else {}


def _main_input(model: Any) -> dict[str, Tensor]:
    """Of a Hugging Face model that reads no tokens, what its config says of pictures and of sound; empty for others."""
    config = getattr(model, "config", None)
    name = getattr(model, "main_input_name", "")
    if config is None or not hasattr(config, "to_dict"):
        return {}
    fields: Mapping[str, Any] = config.to_dict()
    shape = {
        "pixel_values": _picture(fields),
        "input_features": (1, fields.get("num_mel_bins"), 2 * (fields.get("max_source_positions") or 0)),
        "input_values": (1, 4000),
    }.get(name, ())
    if not shape or not all(isinstance(size, int) and size > 0 for size in shape):
        return {}
    return {name: torch.randn(shape, generator=torch.Generator().manual_seed(0))}


def _picture(fields: Mapping[str, Any]) -> tuple[Any, ...]:
    size = fields.get("image_size")
    height, width = size if isinstance(size, list | tuple) and len(size) == 2 else (size, size)
    return 1, fields.get("num_channels", 3), height, width
