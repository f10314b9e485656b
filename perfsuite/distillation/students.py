"""Students that are made from their teacher, and so begin with what it has learned."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from perfsuite.errors import UsageError
from perfsuite.protocols import Technique
from perfsuite.techniques.pruning.depth import Depth
from perfsuite.techniques.pruning.structured import Structured
from perfsuite.techniques.values import Original, Pipeline, parse_technique


def student_of(
    teacher: nn.Module,
    layers: float = 0.5,
    units: float = 0.5,
    technique: Technique | str | None = None,
    data: Iterable[Any] | None = None,
) -> nn.Module:
    """A student that is cut from its teacher, with all its parameters to be trained. The teacher is not changed.

    Args:
        teacher: the model.
        layers: the share of its layers that the student keeps, above 0 to 1.
        units: the share of attention heads and of feed-forward units that the student keeps in each layer.
        technique: what to do in the place of both, such as "depth-50+structured-25".
        data: calibration batches, by which the layers are chosen that change least. Without, they are evenly spread.

    Raises:
        UsageError: a share that is none. TechniqueError: where the technique does not apply to the model.
    """
    chosen = parse_technique(technique) if isinstance(technique, str) else technique or _smaller(layers, units)
    return chosen.apply(teacher, data=data).requires_grad_(True)


def _smaller(layers: float, units: float) -> Technique:
    for name, share in (("layers", layers), ("units", units)):
        if not 0 < share <= 1:
            raise UsageError(f"the student is to keep {share} of the {name}", "give a share above 0, to 1")
    steps: list[Technique] = []
    if layers < 1:
        steps.append(Depth(1 - layers))
    if units < 1:
        steps.append(Structured(1 - units, 1 - units))
    return Pipeline(tuple(steps)) if steps else Original()
