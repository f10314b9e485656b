"""Mixed precision by what this machine is fast at, not by name: ``MixedPrecisionConverter``."""

from __future__ import annotations

import warnings
from contextlib import ExitStack
from functools import cache
from typing import Any

import torch
from torch import nn

from perfsuite.errors import TechniqueError, UsageError
from perfsuite.models.devices import device_of
from perfsuite.models.seeding import seeded
from perfsuite.optimize.measured import Speedup, measure_speedups
from perfsuite.protocols import Technique
from perfsuite.techniques.calibrating import in_eval_mode
from perfsuite.techniques.precision.half import Precision, PrecisionName
from perfsuite.techniques.values import Original

_NAMES: dict[Any, PrecisionName] = {
    torch.float16: "fp16", "fp16": "fp16", "float16": "fp16",
    torch.bfloat16: "bf16", "bf16": "bf16", "bfloat16": "bf16",
}  # fmt: skip
_PROBE = (128, 768)  # tokens and width of the linear layer that stands for a model when there are no inputs


class SlowerHereWarning(UserWarning):
    """A precision was chosen that is slower than fp32 on this device."""


class MixedPrecisionConverter:
    """Converts a model to half precision, and says what that is worth on this device.

    Args:
        model: never changed.
        dtype: ``torch.float16``, ``torch.bfloat16``, "fp16", "bf16", or "auto": measure fp32, fp16 and bf16
            here, and take the fastest.
        use_auto_cast: leave weights as they are and run under ``torch.autocast``; else cast them.
        keep_fp32: layers that stay in fp32 when weights are cast; the norms, if nothing is said.
        inputs: one batch to measure on. Without it a linear layer stands for the model.

    Raises:
        UsageError: an unknown dtype.
    """

    def __init__(
        self,
        model: nn.Module,
        dtype: torch.dtype | str = "auto",
        use_auto_cast: bool = False,
        *,
        keep_fp32: tuple[str, ...] | None = None,
        inputs: Any = None,
    ) -> None:
        if dtype != "auto" and dtype not in _NAMES:
            raise UsageError(f"unknown precision {dtype!r}", "use torch.float16, torch.bfloat16 or 'auto'")
        self.model = model
        self.dtype = dtype
        self.use_auto_cast = use_auto_cast
        self.keep_fp32 = keep_fp32
        self.inputs = inputs
        self._info: dict[str, Any] | None = None

    def convert_to_mixed_precision(self) -> nn.Module:
        """A converted copy. Warns (SlowerHereWarning, with the figure) if it is slower than fp32 on this device."""
        wanted: tuple[PrecisionName, ...] = ("fp16", "bf16") if self.dtype == "auto" else (_NAMES[self.dtype],)
        converted = self._converted(wanted)
        speedups = self._speedups(converted)
        best = max(converted, key=lambda name: speedups[name].ratio)
        if self.dtype == "auto" and speedups[best].ratio <= 1:
            self._info = self._described("fp32", speedups)
            return Original().apply(self.model)
        if speedups[best].high < 1:
            warnings.warn(
                f"{best} is slower than fp32 on this device: {speedups[best]} of its speed, {self._measured_on()}; "
                "dtype='auto' chooses the fastest",
                SlowerHereWarning,
                stacklevel=2,
            )
        self._info = self._described(best, speedups)
        return converted[best]

    def get_precision_info(self) -> dict[str, Any]:
        """What was chosen, and the measured speedup of each precision over fp32."""
        if self._info is None:
            raise UsageError("nothing was converted yet", "call convert_to_mixed_precision() first")
        return self._info

    def _converted(self, wanted: tuple[PrecisionName, ...]) -> dict[PrecisionName, nn.Module]:
        """The model in each precision; of several, those that can hold its weights."""
        converted: dict[PrecisionName, nn.Module] = {}
        refused: list[TechniqueError] = []
        for name in wanted:
            try:
                converted[name] = self._technique(name).apply(self.model)
            except TechniqueError as error:
                refused.append(error)
        if not converted:
            raise refused[0]
        return converted

    def _technique(self, name: PrecisionName) -> Technique:
        if self.use_auto_cast:
            return Precision(name, autocast=True)
        return Precision(name, keep_fp32=_norms(self.model) if self.keep_fp32 is None else self.keep_fp32)

    def _speedups(self, converted: dict[PrecisionName, nn.Module]) -> dict[str, Speedup]:
        if self.inputs is None:
            device = device_of(self.model)
            return {name: probe(name, device) for name in converted}
        original = Original().apply(self.model)
        with ExitStack() as modes:
            for model in (original, *converted.values()):
                modes.enter_context(in_eval_mode(model))
            return measure_speedups(original, converted, self.inputs)

    def _measured_on(self) -> str:
        return (
            "measured on its inputs"
            if self.inputs is not None
            else "measured on a linear layer of {}x{}".format(*_PROBE)
        )

    def _described(self, chosen: str, speedups: dict[str, Speedup]) -> dict[str, Any]:
        return {
            "chosen": chosen,
            "measured": self._measured_on(),
            "speedup_over_fp32": {name: found.ratio for name, found in speedups.items()},
            "text": {name: str(found) for name, found in speedups.items()},
        }


def _norms(model: nn.Module) -> tuple[str, ...]:
    """The types of normalising layers: torch's, and others that are called so (``LlamaRMSNorm``)."""
    return tuple(
        sorted({type(module).__name__ for module in model.modules() if module is not model and _is_norm(module)})
    )


def _is_norm(module: nn.Module) -> bool:
    """What has layers inside is a block, and what has matrices multiplies, whatever its name says."""
    if isinstance(module, nn.LayerNorm | nn.RMSNorm):
        return True
    is_small = all(tensor.dim() < 2 for tensor in (*module.parameters(), *module.buffers()))
    return "norm" in type(module).__name__.lower() and is_small and not any(True for _ in module.children())


@cache
def probe(name: PrecisionName, device: torch.device) -> Speedup:
    """How fast a linear layer in that precision is on a device, relative to fp32. Measured once in a process."""
    tokens, width = _PROBE
    with seeded(0):
        x, layer = torch.randn(tokens, width), nn.Linear(width, width).requires_grad_(False)
    half = Precision(name).apply(layer)
    return measure_speedups(layer.to(device), {name: half.to(device)}, x.to(device))[name]


def convert_to_mixed_precision(model: nn.Module, dtype: torch.dtype | str = "auto", **options: Any) -> nn.Module:
    """A converted copy of the model, in one call. ``options`` are arguments of MixedPrecisionConverter."""
    try:
        converter = MixedPrecisionConverter(model, dtype, **options)
    except TypeError as error:
        raise UsageError(f"convert_to_mixed_precision: {error}", "see MixedPrecisionConverter") from error
    return converter.convert_to_mixed_precision()
