"""Pruning step by step with fine-tuning between (Zhu and Gupta 2017)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

from perfsuite.errors import UsageError
from perfsuite.progress import tell
from perfsuite.protocols import Technique
from perfsuite.techniques.common import copy_finite
from perfsuite.techniques.pruning.masks import keep_zeros


def cubic(step: int, steps: int, initial: float, final: float) -> float:
    """s(t) = s_f + (s_i - s_f) (1 - p)^3 with p = step / steps, from 0 to ``steps``; both ends are exact."""
    if step <= 0:
        return initial
    if step >= steps:
        return final
    value = final + (initial - final) * (1 - step / steps) ** 3
    return min(max(value, min(initial, final)), max(initial, final))  # rounding may step over an end


@dataclass(frozen=True)
class Round:
    """One iteration: the sparsity it pruned to, the score after fine-tuning if asked for, and whether it stood."""

    sparsity: float
    score: float | None
    kept: bool


@dataclass(frozen=True)
class Iterated:
    """The last model that held the floor, and what happened on the way."""

    model: nn.Module
    rounds: tuple[Round, ...]


def prune_iteratively(
    model: nn.Module,
    technique_at: Callable[[float], Technique],
    final: float,
    iterations: int,
    *,
    data: Iterable[Any] | None = None,
    fine_tune: Callable[[nn.Module], object] | None = None,
    score: Callable[[nn.Module], float] | None = None,
    floor: float | None = None,
) -> Iterated:
    """Prune to a cubic schedule of sparsities; after each step fine-tune, then score.

    ``technique_at`` gives the technique for a sparsity; each reads ``data``. ``fine_tune`` trains the model it gets in
    place; zeros stay zero meanwhile. As soon as ``score`` falls below ``floor``, the iteration stops
    and the last model that held is the result; the model given if none did.

    Raises UsageError for no iterations, or a floor without a score.
    """
    if iterations < 1:
        raise UsageError(f"{iterations} iterations are not possible", "use at least 1")
    if floor is not None and score is None:
        raise UsageError("an accuracy floor needs a score to compare with", "give a function that scores a model")
    current, rounds = copy_finite(model), []
    for number in range(1, iterations + 1):
        sparsity = cubic(number, iterations, 0.0, final)
        candidate = technique_at(sparsity).apply(current, data=data)
        if fine_tune is not None:
            _tune(candidate, fine_tune)
        value = score(candidate) if score is not None else None
        holds = floor is None or (value is not None and value >= floor)
        rounds.append(Round(sparsity, value, holds))
        tell("pruning", number, iterations)
        if not holds:
            break
        current = candidate
    return Iterated(current, tuple(rounds))


def _tune(model: nn.Module, fine_tune: Callable[[nn.Module], object]) -> None:
    """Train in place; zeros stay zero, and each module is put back into its mode."""
    modes = {module: module.training for module in model.modules()}
    with keep_zeros(model):
        fine_tune(model)
    for module, training in modes.items():
        module.training = training
