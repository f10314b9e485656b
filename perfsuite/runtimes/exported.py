"""A call of what another runtime executes, checked against what it was exported for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from perfsuite.errors import UsageError
from perfsuite.export.signature import Signature


@dataclass(frozen=True)
class ExportedCall:
    """``run`` takes the tensors in the signature's order, and gives arrays in that of its outputs."""

    signature: Signature
    run: Callable[[Sequence[Tensor]], Sequence[Any]]
    device: str = "cpu"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Raises UsageError for inputs that the program was not exported for: they are never answered."""
        tensors = self.signature.bind(args, kwargs)
        elsewhere = next((tensor.device for tensor in tensors if tensor.device.type != self.device), None)
        if elsewhere is not None:
            raise UsageError(
                f"the program runs on {self.device!r}, and its input is on {elsewhere}",
                f"choose the device {self.device!r}",
            )
        return self.signature.output(tuple(map(_tensor, self.run(tensors))))


def _tensor(found: Any) -> Tensor:
    return found if isinstance(found, Tensor) else torch.from_numpy(np.asarray(found))
