"""What dispatch-derived numbers depend on beside the code."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from perfsuite.spec import Context
from perfsuite.techniques.quantization.kernels import kernel_name
from perfsuite.techniques.quantization.layers import Int8Linear


def context(device: torch.device, model: nn.Module | None = None, versions: Mapping[str, str] | None = None) -> Context:
    """Torch's version, the int8 kernel where int8 layers may run, and the ``versions`` of another runtime.

    A callable without a known model may run some.
    """
    may_run_int8 = model is None or any(isinstance(module, Int8Linear) for module in model.modules())
    kernels = f"int8:{kernel_name(device)}" if may_run_int8 else "torch's own"
    others = [f"{name} {version}" for name, version in sorted((versions or {}).items())]
    return Context(torch.__version__.partition("+")[0], ", ".join([kernels, *others]))
