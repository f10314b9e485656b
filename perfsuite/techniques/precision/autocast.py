"""A model that runs under autocast, and otherwise is the model it was."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from perfsuite.errors import TechniqueError
from perfsuite.techniques.precision.cast import DTYPES, cast_floats


class MixedPrecisionWrapper(nn.Module):
    """Runs a model under ``torch.autocast`` and gives its outputs in the dtype of its parameters.

    ``dtype``: "fp16", "bf16" or the torch dtype. Parameters stay as they are; the state of autocast is
    restored afterwards, also after an exception. Attributes of the model are found on the wrapper, too;
    ``save_pretrained`` saves the model inside.

    Raises TechniqueError for a model without floating-point parameters, and another dtype.
    """

    def __init__(self, module: nn.Module, dtype: str | torch.dtype) -> None:
        super().__init__()
        wanted = DTYPES.get(dtype) if isinstance(dtype, str) else dtype
        if wanted not in DTYPES.values():
            raise TechniqueError(f"autocast to {dtype} is not possible", "use 'fp16' or 'bf16'")
        outer = next((p.dtype for p in module.parameters() if p.is_floating_point()), None)
        if outer is None:
            raise TechniqueError("the model has no floating-point parameter to cast", "choose another technique")
        self.module = module
        self.dtype = wanted
        self.outer = outer
        self.training = module.training

    @property
    def technique_name(self) -> str:
        """What it would be called if a technique had made it."""
        return next(f"{name}-autocast" for name, dtype in DTYPES.items() if dtype == self.dtype)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As the model's own forward."""
        device = next(self.module.parameters()).device.type
        with torch.autocast(device, dtype=self.dtype):
            return cast_floats(self.module(*args, **kwargs), self.outer)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "module" or name.startswith("__"):  # not there yet, or a protocol such as deep copying
                raise
            return getattr(super().__getattr__("module"), name)
