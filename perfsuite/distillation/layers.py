"""Losses between layers of student and teacher: their hidden states (Romero et al. 2015), or where they attend.

Both are modules, so that a projection is trained with the student: give ``loss.parameters()`` to the optimizer, too
(``perfsuite.distill`` does).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perfsuite.distillation.attending import attending
from perfsuite.distillation.loss import kl, mean
from perfsuite.distillation.watching import Key, Watched, layers_of, states, watched
from perfsuite.errors import UsageError


@dataclass(frozen=True)
class Pair:
    """What was seen in the latest call of both models."""

    student: Watched
    teacher: Watched


class LayerLoss(nn.Module, ABC):
    """The mean over pairs of layers of how far the student's is from the teacher's.

    ``layer_map``: {layer of the student: layer of the teacher}, each by the name of a module, or by its number in the
    model's list of layers. ``weight``: what it counts beside the other losses.
    """

    def __init__(self, layer_map: Mapping[Key, Key], weight: float = 1.0) -> None:
        super().__init__()
        if not layer_map:
            raise UsageError("the layer map is empty", "give {layer of the student: layer of the teacher}")
        self.layer_map, self.weight = dict(layer_map), weight

    @contextmanager
    def watching(self, student: nn.Module, teacher: nn.Module) -> Iterator[Pair]:
        """While open, calls of both models are seen; what it yields goes into the loss.

        Raises UsageError for a layer that does not exist.
        """
        layers_of(teacher, self.layer_map.values())
        with self._watch(student, self.layer_map) as of_student, self._watch(teacher, self.layer_map.values()) as other:
            yield Pair(of_student, other)

    def forward(self, seen: Pair, mask: Tensor | None = None) -> Tensor:
        """A scalar. ``mask`` (B, T): true or 1 for the positions that count. No gradient goes into the teacher.

        Raises OutputError for a layer that was not called, UsageError for shapes that do not fit.
        """
        counted = None if mask is None else mask.bool()
        losses = [
            self._between(seen.student.of(ours).float(), seen.teacher.of(theirs).detach().float(), counted)
            for ours, theirs in self.layer_map.items()
        ]
        return self.weight * torch.stack(losses).mean()

    @abstractmethod
    def _watch(self, model: nn.Module, keys: Iterable[Key]) -> AbstractContextManager[Watched]: ...

    @abstractmethod
    def _between(self, student: Tensor, teacher: Tensor, counted: Tensor | None) -> Tensor: ...


class HiddenStateLoss(LayerLoss):
    """Between hidden states (B, T, D), or (B, D).

    Args:
        layer_map: {layer of the student: layer of the teacher}.
        projection: what the student's states go through first, such as ``nn.Linear(student width, teacher width)``;
            needed where the widths differ. It is trained, and not needed afterwards.
        measure: "mse", the mean over positions and features, or "cosine", the mean over positions of 1 - cosine.
        weight: what it counts beside the other losses.

    Raises:
        UsageError: an empty map, an unknown measure.
    """

    def __init__(
        self,
        layer_map: Mapping[Key, Key],
        projection: nn.Module | None = None,
        measure: Literal["mse", "cosine"] = "mse",
        weight: float = 1.0,
    ) -> None:
        super().__init__(layer_map, weight)
        if measure not in ("mse", "cosine"):
            raise UsageError(f"unknown measure {measure!r} of hidden states", "use 'mse' or 'cosine'")
        self.projection, self.measure = projection, measure

    def _watch(self, model: nn.Module, keys: Iterable[Key]) -> AbstractContextManager[Watched]:
        return watched(model, keys, states)

    def _between(self, student: Tensor, teacher: Tensor, counted: Tensor | None) -> Tensor:
        found = student if self.projection is None else self.projection(student)
        if found.shape != teacher.shape:
            raise UsageError(
                f"hidden states of shape {tuple(found.shape)} are not those of the teacher, {tuple(teacher.shape)}",
                f"give projection=nn.Linear({student.shape[-1]}, {teacher.shape[-1]})",
            )
        _check_mask(counted, found.shape[:-1])
        if self.measure == "cosine":
            return mean(1 - F.cosine_similarity(found, teacher, dim=-1), counted)
        return mean((found - teacher).square().mean(dim=-1), counted)


class AttentionLoss(LayerLoss):
    """Between attention probabilities (B, H, T, S): where each token of the student and of the teacher looks.

    Numbers of heads that differ are averaged first. Seen are calls of ``F.scaled_dot_product_attention`` and
    of softmax inside the layers, so Hugging Face's "sdpa" and "eager" attention, and our encoder's.

    Args:
        layer_map: {layer of the student: layer of the teacher}.
        measure: "kl", KL(teacher || student) over the tokens looked at, or "mse". Means over heads and positions.
        weight: what it counts beside the other losses.

    Raises:
        UsageError: an empty map, an unknown measure.
    """

    def __init__(self, layer_map: Mapping[Key, Key], measure: Literal["kl", "mse"] = "kl", weight: float = 1.0) -> None:
        super().__init__(layer_map, weight)
        if measure not in ("kl", "mse"):
            raise UsageError(f"unknown measure {measure!r} of attention", "use 'kl' or 'mse'")
        self.measure = measure

    def _watch(self, model: nn.Module, keys: Iterable[Key]) -> AbstractContextManager[Watched]:
        return attending(model, keys)

    def _between(self, student: Tensor, teacher: Tensor, counted: Tensor | None) -> Tensor:
        if student.shape[1] != teacher.shape[1]:
            student, teacher = (each.exp().mean(dim=1, keepdim=True).log() for each in (student, teacher))
        if student.shape != teacher.shape:
            raise UsageError(
                f"attention of shape {tuple(student.shape)} is not over the teacher's tokens, {tuple(teacher.shape)}",
                "give both models the same tokens",
            )
        _check_mask(counted, (student.shape[0], student.shape[2]))
        if self.measure == "kl":
            return mean(kl(teacher, student).mean(dim=1), counted)  # (B, H, T), then (B, T)
        return mean((student.exp() - teacher.exp()).square().mean(dim=(1, 3)), counted)


def _check_mask(counted: Tensor | None, shape: tuple[int, ...]) -> None:
    if counted is not None and tuple(counted.shape) != tuple(shape):
        raise UsageError(
            f"a mask of shape {tuple(counted.shape)} does not fit {tuple(shape)}", "give one for each position"
        )
