"""What a quantized Hugging Face model tells ``save_pretrained``, and through its config whoever loads the files.

Without it ``from_pretrained`` would find no weight under the names that it knows, draw random ones, and only warn.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from perfsuite.techniques.quantization.parameters import is_quantized

# Without a "quant_method" transformers refuses a folder; of a method that it does not know it warns, and goes on.
NOT_FOR_TRANSFORMERS = {"loaded_by": "perfsuite.load_model(folder)"}


def mark_pretrained(model: nn.Module) -> None:
    """Mark, in place, each Hugging Face model that holds quantized layers: in its config, and in the names it ties."""
    module: Any
    for module in model.modules():
        config: Any = module.__dict__.get("config")
        if hasattr(config, "to_dict") and any(map(is_quantized, module.modules())):
            config.quantization_config = dict(NOT_FOR_TRANSFORMERS)
            tied: Any = getattr(module, "_tied_weights_keys", None)
            if isinstance(tied, dict):
                module._tied_weights_keys = _with_codes(tied)


def without_mark(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of a config without that."""
    marked = fields.get("quantization_config") == NOT_FOR_TRANSFORMERS
    return {key: value for key, value in fields.items() if not (marked and key == "quantization_config")}


def _with_codes(tied: dict[str, str]) -> dict[str, str]:
    """Codes are tied where weights are; of tied tensors whose names it is not told, ``save_pretrained`` saves none."""
    named = {name: other for name, other in tied.items() if name.endswith(".weight") and other.endswith(".weight")}
    return tied | {_named(name): _named(other) for name, other in named.items()}


def _named(weight: str) -> str:
    return weight.removesuffix("weight") + "codes"
