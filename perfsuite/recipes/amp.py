"""Automatic mixed precision: forward passes under autocast, weights, gradients and moments in float32."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch.amp.autocast_mode import autocast
from torch.amp.grad_scaler import GradScaler

from perfsuite._compat.torch import ScalerWithoutValues
from perfsuite.errors import UsageError
from perfsuite.models.devices import device_of
from perfsuite.training.plan import StepPlan

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Amp:
    """``bf16-amp``, and ``fp16-amp``, whose loss is scaled so that small gradients are not lost (GradScaler)."""

    dtype: Literal["bf16", "fp16"]

    @property
    def name(self) -> str:
        return f"{self.dtype}-amp"

    @staticmethod
    def bf16(argument: str | None) -> Amp:
        return _without_argument("bf16", argument)

    @staticmethod
    def fp16(argument: str | None) -> Amp:
        return _without_argument("fp16", argument)

    def apply(self, plan: StepPlan) -> StepPlan:
        device = device_of(plan.model).type
        changed = replace(plan, around_forward=lambda: autocast(device, _DTYPES[self.dtype]))
        scaler = GradScaler if plan.has_values else ScalerWithoutValues
        return changed if self.dtype == "bf16" else replace(changed, make_scaler=lambda: scaler(device))


def _without_argument(dtype: Literal["bf16", "fp16"], argument: str | None) -> Amp:
    if argument is not None:
        raise UsageError(f"recipe '{dtype}-amp' takes no argument, not {argument!r}", f"write '{dtype}-amp'")
    return Amp(dtype)
