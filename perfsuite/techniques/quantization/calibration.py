"""Which range each layer's activations get, from calibration data.

Every layer's inputs go into a histogram whose range doubles as needed, so that one pass over any
loader is enough and no activation is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from perfsuite._compat.torch import uncompiled
from perfsuite.errors import NonFiniteError, TechniqueError
from perfsuite.protocols import wants_gradients
from perfsuite.techniques.calibrating import batches, in_eval_mode
from perfsuite.techniques.quantization.grid import affine_grid, to_grid
from perfsuite.techniques.recorded import Digested

_BINS = 4096  # a power of two: merging pairs of bins keeps them aligned around 0
_CLIPS = torch.linspace(0.3, 1.0, 71)  # candidates of the MSE search, as fractions of the range


class Histogram:
    """Counts of values in equal bins over -limit..limit, with the exact lowest and highest value."""

    def __init__(self) -> None:
        self.low, self.high = torch.inf, -torch.inf
        self.limit = 0.0
        self.counts = torch.zeros(_BINS, dtype=torch.float64)

    def add(self, x: Tensor) -> None:
        x = x.detach().cpu().double().flatten()  # in float32, counts would end at 2**24 and ranges at 3e38
        if x.numel() == 0:
            return
        low, high = (float(bound) for bound in torch.aminmax(x))
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._reach(max(-low, high))
        self.counts += torch.histc(x, _BINS, -self.limit, self.limit)

    def _reach(self, largest: float) -> None:
        if self.limit == 0:
            self.limit = largest or 1e-12
        while self.limit < largest:
            half = self.counts.view(-1, 2).sum(dim=1)
            self.counts = torch.cat([half.new_zeros(_BINS // 4), half, half.new_zeros(_BINS // 4)])
            self.limit *= 2

    @property
    def centers(self) -> Tensor:
        width = 2 * self.limit / _BINS
        return torch.arange(_BINS, dtype=torch.float64) * width - self.limit + width / 2

    def percentile(self, fraction: float) -> tuple[float, float]:
        """The range without the outermost ``1 - fraction`` of the values, half of them on either side."""
        outside = (1 - fraction) / 2 * self.counts.sum()
        below, above = self.counts.cumsum(0), self.counts.flip(0).cumsum(0)
        low = float(self.centers[int((below > outside).nonzero()[0])])
        high = float(self.centers.flip(0)[int((above > outside).nonzero()[0])])
        return max(low, self.low), min(high, self.high)

    def least_error(self) -> tuple[float, float]:
        """The clipped range whose grid has the least mean squared error."""
        centers, errors = self.centers, []
        for clip in _CLIPS.tolist():
            ends = (torch.tensor(end * clip, dtype=torch.float64) for end in (self.low, self.high))
            scale, zero = affine_grid(*ends)
            back = (to_grid(centers, scale, zero) - zero) * scale
            errors.append(float((self.counts * (back - centers) ** 2).sum()))
        best = float(_CLIPS[errors.index(min(errors))])
        return self.low * best, self.high * best


RangeOf = Callable[[Histogram], tuple[float, float]]


def calibrate(
    model: nn.Module, layers: Mapping[nn.Module, str], data: Digested, range_of: RangeOf
) -> dict[str, tuple[Tensor, Tensor]]:
    """The grid (scale and zero, both scalars) of the inputs of each of these layers, by name.

    ``range_of`` says which values the grid shall hold, of all that were seen. Raises TechniqueError for no data and
    for a layer that the data never reached, NonFiniteError for NaN or infinite activations.
    """
    seen = {name: Histogram() for name in layers.values()}
    handles = [
        module.register_forward_pre_hook(_observer(name, seen[name]), with_kwargs=True)
        for module, name in layers.items()
    ]
    try:
        with torch.set_grad_enabled(wants_gradients(model)), in_eval_mode(model), uncompiled(model):
            for inputs in batches(model, data, "calibrating"):
                model(*inputs.args, **inputs.kwargs)
    finally:
        for handle in handles:
            handle.remove()
    return {name: _grid(name, histogram, range_of, model) for name, histogram in seen.items()}


def _observer(name: str, histogram: Histogram) -> Any:
    def observe(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
        x = (args[0] if args else next(iter(kwargs.values()))).detach()
        if not bool(x.isfinite().all()):
            raise NonFiniteError(
                f"the input of layer {name!r} has NaN or infinite values", "check the weights and data"
            )
        histogram.add(x)

    return observe


def _grid(name: str, histogram: Histogram, range_of: RangeOf, model: nn.Module) -> tuple[Tensor, Tensor]:
    if histogram.low > histogram.high:
        raise TechniqueError(
            f"layer {name!r} was never reached by the calibration data", f"exclude it: exclude=({name!r},)"
        )
    weight: Any = model.get_submodule(name).weight
    dtype = torch.promote_types(weight.dtype, torch.float32)
    low, high = (torch.tensor(bound, dtype=dtype, device=weight.device) for bound in range_of(histogram))
    return affine_grid(low, high)
