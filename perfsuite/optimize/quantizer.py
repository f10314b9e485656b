"""Quantization by config: ``DynamicQuantizer(model, config).optimize()`` and ``StaticQuantizer``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import nn

from perfsuite.errors import UsageError
from perfsuite.models.devices import device_of
from perfsuite.optimize.sensitivity import hold_floor
from perfsuite.protocols import Technique
from perfsuite.storage import count_stored
from perfsuite.techniques.precision.half import Precision
from perfsuite.techniques.quantization.int8_dynamic import Int8Dynamic
from perfsuite.techniques.quantization.int8_static import Int8Static, Ranges
from perfsuite.techniques.quantization.kernels import kernel_name
from perfsuite.techniques.quantization.weight_only import WeightOnly
from perfsuite.techniques.recorded import coverage_of, fidelity_of
from perfsuite.techniques.selection import names
from perfsuite.units import Unit, format_value

_INT8 = (torch.qint8, torch.int8, "qint8", "int8")


@dataclass(frozen=True)
class QuantizationConfig:
    """How a model is to be quantized.

    Args:
        quantization_type: "dynamic" (activations quantized on the fly) or "static" (ranges calibrated).
        dtype: int8, as ``torch.qint8``, ``torch.int8`` or "int8"; the tensors are plain int8.
        bits: 8, or 2 to 7 for packed weights with float activations.
        quantize_weights: must be true; there is nothing else to store.
        quantize_activations: whether *ranges* of activations are stored: false for dynamic, true for static,
            which is also the default.
        per_channel: one scale for each output channel; else one for each layer.
        per_token: dynamic activations get one scale for each row; else one for each call.
        ranges, percentile: how calibration chooses ranges.
        group_size: inputs that share a scale, below 8 bits.
        embeddings: quantize them, too.
        fallback: where the device has no fast int8 kernel: "portable" int8, or "fp16" weights.
        accuracy_floor: leave the most sensitive layers in float until the score reaches it.
        include, exclude: layers by name, pattern of names, or type.

    Raises:
        UsageError: a combination that means nothing, in one message.
    """

    quantization_type: Literal["dynamic", "static"] = "dynamic"
    dtype: Any = "int8"
    bits: int = 8
    quantize_weights: bool = True
    quantize_activations: bool | None = None
    per_channel: bool = True
    per_token: bool = True
    ranges: Ranges = "minmax"
    percentile: float = 0.9999
    group_size: int = 64
    embeddings: bool = True
    fallback: Literal["portable", "fp16"] = "portable"
    accuracy_floor: float | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for wrong, what, remedy in self._complaints():
            if wrong:
                raise UsageError(what, remedy)
        self.technique()  # says now what is wrong with the rest

    def _complaints(self) -> tuple[tuple[bool, str, str], ...]:
        kind, static = self.quantization_type, self.quantization_type == "static"
        stores = "stores" if static else "does not store"
        return (
            (kind not in ("dynamic", "static"), f"unknown quantization_type {kind!r}", "use 'dynamic' or 'static'"),
            (
                self.dtype not in _INT8,
                f"dtype {self.dtype} is no int8",
                "use int8 here; fp16 and bf16 are mixed precision",
            ),
            (not self.quantize_weights, "quantize_weights=False leaves nothing to do", "leave it true"),
            (
                self.quantize_activations not in (None, static),
                f"{kind} quantization {stores} ranges of activations: quantize_activations={self.quantize_activations}",
                f"use quantization_type={'dynamic' if static else 'static'!r}, or leave it out",
            ),
            (static and self.bits != 8, f"static quantization at {self.bits} bits is not possible", "use 8 bits"),
            (
                self.fallback not in ("portable", "fp16"),
                f"unknown fallback {self.fallback!r}",
                "use 'portable' or 'fp16'",
            ),
        )

    def technique(self) -> Int8Dynamic | Int8Static | WeightOnly:
        """The technique that does it."""
        chosen = (names(self.include), names(self.exclude))
        if self.bits != 8:
            return WeightOnly(self.bits, self.group_size, self.embeddings, *chosen)
        if self.quantization_type == "static":
            return Int8Static(self.ranges, self.percentile, self.embeddings, self.per_channel, *chosen)
        return Int8Dynamic(self.embeddings, self.per_token, self.per_channel, *chosen)


class _Quantizer:
    """What both quantizers do: choose the technique, hold the floor, count the files."""

    def __init__(
        self,
        model: nn.Module,
        config: QuantizationConfig,
        data: Iterable[Any] | None,
        score: Callable[[nn.Module], float] | None,
    ) -> None:
        self.model = model
        self.config = config
        self._data = data
        self._score = score
        self._result: nn.Module | None = None
        self._technique: Technique = config.technique()

    def optimize(self) -> nn.Module:
        """A quantized copy of the model. Raises TechniqueError where there is nothing to quantize."""
        self._technique = technique = self._chosen()
        floor = self.config.accuracy_floor
        if floor is None:
            self._result = technique.apply(self.model, data=self._data)
        elif self._score is None:
            raise UsageError("an accuracy floor needs a score to compare with", "give score=, a function of a model")
        else:
            self._technique, self._result = hold_floor(self.model, technique, self._data, self._score, floor)
        return self._result

    def get_size_info(self) -> dict[str, Any]:
        """Bytes of the saved files, counted; the rest says what was done, how well, and what runs it."""
        if self._result is None:
            raise UsageError("nothing was quantized yet", "call optimize() first")
        before, after = count_stored(self.model).size_bytes, count_stored(self._result).size_bytes
        return {
            "original_bytes": before,
            "quantized_bytes": after,
            "compression_ratio": before / after,
            "original_size": format_value(before, Unit.BYTES),
            "quantized_size": format_value(after, Unit.BYTES),
            "technique": self._technique.name,
            "coverage": coverage_of(self._result),
            "fidelity": fidelity_of(self._result),
            "excluded": getattr(self._technique, "exclude", ()),
            "kernel": kernel_name(device_of(self.model)),
        }

    def _chosen(self) -> Int8Dynamic | Int8Static | WeightOnly | Precision:
        fast = kernel_name(device_of(self.model)) != "blocked"
        if self.config.fallback == "fp16" and self.config.bits == 8 and not fast:
            return Precision("fp16")
        return self.config.technique()


class DynamicQuantizer(_Quantizer):
    """Int8 weights; activations are float between layers and quantized on the fly.

    ``data`` and ``score`` are needed for an ``accuracy_floor`` only.
    """

    def __init__(
        self,
        model: nn.Module,
        config: QuantizationConfig | None = None,
        *,
        data: Iterable[Any] | None = None,
        score: Callable[[nn.Module], float] | None = None,
    ) -> None:
        config = config or QuantizationConfig()
        if config.quantization_type != "dynamic":
            raise UsageError("DynamicQuantizer was given a static config", "use StaticQuantizer")
        super().__init__(model, config, data, score)


class StaticQuantizer(_Quantizer):
    """Int8 weights, and activations on ranges that calibration has fixed.

    ``calibration_loader``: batches of real inputs, of any loader; of a list such as (input, label),
    the first entry is the input.
    """

    def __init__(
        self,
        model: nn.Module,
        config: QuantizationConfig | None = None,
        calibration_loader: Iterable[Any] | None = None,
        *,
        score: Callable[[nn.Module], float] | None = None,
    ) -> None:
        config = config or QuantizationConfig("static")
        if config.quantization_type != "static":
            raise UsageError("StaticQuantizer was given a dynamic config", "use DynamicQuantizer")
        super().__init__(model, config, calibration_loader, score)


def quantize_model(
    model: nn.Module,
    quantization_type: Literal["dynamic", "static"] = "dynamic",
    bits: int = 8,
    *,
    calibration_loader: Iterable[Any] | None = None,
    score: Callable[[nn.Module], float] | None = None,
    **options: Any,
) -> nn.Module:
    """A quantized copy of the model, in one call. ``options`` are fields of QuantizationConfig."""
    try:
        config = replace(QuantizationConfig(quantization_type, bits=bits), **options)
    except TypeError as error:
        raise UsageError(f"quantize_model: {error}", "see the fields of QuantizationConfig") from error
    if quantization_type == "static":
        return StaticQuantizer(model, config, calibration_loader, score=score).optimize()
    return DynamicQuantizer(model, config, data=calibration_loader, score=score).optimize()
