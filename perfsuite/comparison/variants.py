"""The forms of a model that take part, and what must hold of them before anything is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from torch import nn

from perfsuite.errors import ModelError, UsageError
from perfsuite.measure.engines import EAGER, as_module, engine_of
from perfsuite.techniques.recorded import coverage_of, provenance
from perfsuite.techniques.values import claims_of_steps

AnyModel = nn.Module | Callable[..., Any]


@dataclass(frozen=True)
class Variant:
    """One form of the model. ``engine``: what runs it, empty where nobody said.

    ``reference`` names the variant that is its own fp32 form; empty if the original is.
    """

    name: str
    module: nn.Module
    engine: str = EAGER
    reference: str = ""
    claims: Mapping[str, float] = field(default_factory=dict)
    deployed: tuple[Path, ...] = ()

    @property
    def technique(self) -> str:
        return "+".join(step.technique for step in provenance(self.module))

    @property
    def is_eager(self) -> bool:
        """Whether all it does is dispatched by torch, one operator at a time, so that it can be recorded."""
        return self.engine == EAGER

    @property
    def claimed(self) -> dict[str, float]:
        """What the recorded techniques promise, and what the user says that they do."""
        return claims_of_steps(provenance(self.module)).numbers | dict(self.claims)

    @property
    def touched(self) -> Mapping[str, float]:
        """By claim of the recorded techniques, the fraction of the weights' bytes that it holds for."""
        return claims_of_steps(provenance(self.module)).touched

    @property
    def coverage(self) -> str:
        """What the recorded techniques have touched, in words."""
        return coverage_of(self.module)

    @property
    def series(self) -> tuple[str, float] | None:
        """The series that the recorded techniques are of, and the fraction that they remove."""
        return claims_of_steps(provenance(self.module)).series


def variant(
    name: str, model: AnyModel, *, engine: str = "", reference: str = "",
    claims: Mapping[str, float] | None = None, deployed: Sequence[Path] = (),
) -> Variant:  # fmt: skip
    """A variant from what a user gives. Raises UsageError for what is no model and no callable, or has no name."""
    if not (isinstance(name, str) and name.strip() and name.isprintable()):
        raise UsageError(f"{name!r} is no name for a variant", "give a short text on one line, such as 'int8'")
    if not callable(model):
        raise UsageError(
            f"{name!r} is a {type(model).__name__}, neither a module nor a callable",
            "give an nn.Module, or a function of the same inputs",
        )
    for what, value in (claims or {}).items():
        if isinstance(value, bool) or not isinstance(value, Real):
            raise UsageError(f"{name!r} claims {what} of {value!r}", "claim numbers, such as {'speedup': 2.0}")
    module = as_module(model)
    return Variant(name, module, engine or engine_of(module), reference, claims or {}, tuple(deployed))


def common_device(variants: Iterable[Variant]) -> torch.device:
    """The one device that all variants are on. Raises ModelError, naming the first that is elsewhere."""
    first: tuple[str, torch.device] | None = None
    for each in variants:
        for tensor in chain(each.module.parameters(), each.module.buffers()):
            first = first or (each.name, tensor.device)
            if tensor.device != first[1]:
                raise ModelError(
                    f"{first[0]!r} has weights on {first[1]}, {each.name!r} on {tensor.device}",
                    "move everything to one device: model.to(device)",
                )
    return first[1] if first else torch.device("cpu")
