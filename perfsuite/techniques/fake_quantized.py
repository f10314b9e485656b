"""Layers that quantize as they compute, in float, while a model is trained: how they are told from all others."""

from __future__ import annotations

from torch import nn

from perfsuite.errors import TechniqueError


class FakeQuantized(nn.Module):
    """Base of such layers. ``fakes``: whether they do so now."""

    fakes = True


def fake_quantized(model: nn.Module) -> dict[str, FakeQuantized]:
    """Such layers of a model, each under its first name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, FakeQuantized)}


def check_converted(model: nn.Module, what: str) -> None:
    """Raises TechniqueError for a model that is prepared for training; ``what`` cannot be done with it."""
    found = next(iter(fake_quantized(model)), None)
    if found is not None:
        where = repr(found) if found else "the model"
        raise TechniqueError(
            f"{what}: {where} is prepared for quantization-aware training, and holds floats that are not what it "
            "computes with",
            "use what perfsuite.convert_qat(model) gives; to train on later, keep model.state_dict()",
        )
