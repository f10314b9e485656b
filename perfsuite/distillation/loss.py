"""The loss of distillation: towards the teacher's answers, and towards the labels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from perfsuite.errors import UsageError


@dataclass(frozen=True)
class DistillationLoss:
    """``alpha * T^2 * KL(teacher || student at temperature T) + (1 - alpha) * cross entropy``.

    ``alpha`` weighs the *soft* loss: 1 is the teacher alone, 0 the labels alone. (Hugging Face's book and examples
    have it the other way round: their ``alpha`` weighs the labels.) The factor T^2 keeps gradients of the soft loss
    at the same scale for all temperatures (Hinton et al. 2015, 2.1). KL is summed over classes.

    Both losses are means over the same positions: those whose label is not ``ignore_index``, and that the mask keeps.
    They are computed in float32 at least, whatever dtype the logits have.

    Raises:
        UsageError: alpha outside [0, 1], or a temperature that is not above 0.
    """

    alpha: float = 0.5
    temperature: float = 2.0
    ignore_index: int = -100

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise UsageError(f"alpha is {self.alpha}", "use 0 (the labels alone) to 1 (the teacher alone)")
        if not 0 < self.temperature < float("inf"):
            raise UsageError(f"temperature is {self.temperature}", "use a number above 0, such as 2")

    def __call__(
        self, student_logits: Tensor, teacher_logits: Tensor, labels: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """The loss, a scalar; 0 where no position counts.

        Args:
            student_logits: (B, C), or (B, T, C) of tokens.
            teacher_logits: the same shape. No gradient goes there.
            labels: (B,) or (B, T), the class of the logits in its place: next tokens come shifted. With ``alpha`` 1
                they only say which positions are ignored, and may be left out.
            mask: the same shape, true or 1 for what counts, as Hugging Face's ``attention_mask``.

        Raises:
            UsageError: shapes or vocabularies that differ, no labels where alpha is below 1, a label that is no class.
        """
        self._check(student_logits, teacher_logits, labels, mask)
        counted = self._counted(labels, mask)
        loss = torch.zeros((), device=student_logits.device)
        if self.alpha > 0:
            loss = loss + self.alpha * self._soft(student_logits, teacher_logits, counted)
        if self.alpha < 1:
            assert labels is not None
            loss = loss + (1 - self.alpha) * self._hard(student_logits, labels, counted)
        return loss

    def terms(self, labels: Tensor, mask: Tensor | None = None) -> int:
        """How many positions the loss is a mean over: what weighs a micro-batch when gradients are accumulated.

        The loss of a whole batch is the sum of ``loss * terms`` of its parts over the sum of ``terms``. The mean of
        their losses is not, where parts have more or fewer positions that count.
        """
        counted = self._counted(labels, mask)
        return labels.numel() if counted is None else int(counted.sum())

    def _counted(self, labels: Tensor | None, mask: Tensor | None) -> Tensor | None:
        """Which positions count, of the shape of the labels; None for all."""
        wanted = None if labels is None else labels != self.ignore_index
        if mask is None:
            return wanted
        return mask.bool() if wanted is None else wanted & mask.bool()

    def _soft(self, student_logits: Tensor, teacher_logits: Tensor, counted: Tensor | None) -> Tensor:
        with torch.no_grad():
            wanted = F.log_softmax(_wide(teacher_logits.detach()) / self.temperature, dim=-1)
        found = F.log_softmax(_wide(student_logits) / self.temperature, dim=-1)
        divergence = kl(wanted, found)  # (B,) or (B, T)
        return self.temperature**2 * mean(divergence, counted)

    def _hard(self, student_logits: Tensor, labels: Tensor, counted: Tensor | None) -> Tensor:
        wanted = labels if counted is None else labels.masked_fill(~counted, self.ignore_index)
        rows, classes = _wide(student_logits).flatten(0, -2), wanted.flatten().long()
        try:
            each = F.cross_entropy(rows, classes, ignore_index=self.ignore_index, reduction="sum")
        except IndexError as error:
            raise UsageError(
                f"labels go from {int(classes.min())} to {int(classes.max())}, the student has {rows.shape[1]} classes",
                f"give classes from 0, or {self.ignore_index} for what does not count",
            ) from error
        return each / _at_least_one(wanted != self.ignore_index)

    def _check(self, student: Tensor, teacher: Tensor, labels: Tensor | None, mask: Tensor | None) -> None:
        if student.shape[-1:] != teacher.shape[-1:]:
            raise UsageError(
                f"the student has {student.shape[-1]} classes and the teacher {teacher.shape[-1]}",
                "distil between models with one vocabulary, or cut the logits of both to the classes that they share",
            )
        if student.shape != teacher.shape or student.dim() < 2:
            raise UsageError(
                f"logits of shape {tuple(student.shape)} and {tuple(teacher.shape)} are no two answers to one batch",
                "give both models the same inputs, and logits of shape (B, C) or (B, T, C)",
            )
        if labels is None and self.alpha < 1:
            raise UsageError(
                f"alpha {self.alpha} leaves a loss on labels, and there are none", "give labels, or alpha 1"
            )
        for name, given in (("labels", labels), ("mask", mask)):
            if given is not None and given.shape != student.shape[:-1]:
                raise UsageError(
                    f"{name} of shape {tuple(given.shape)} do not fit logits of {tuple(student.shape)}",
                    "give one for each position, in its place",
                )


def kl(wanted: Tensor, found: Tensor) -> Tensor:
    """KL(wanted || found), summed over the last dimension; both are logarithms of probabilities.

    What has probability 0 adds nothing, also where its logarithm is minus infinity in both.
    """
    terms = torch.where(wanted > -torch.inf, wanted.exp() * (wanted - found), 0.0)
    return terms.sum(dim=-1)


def mean(values: Tensor, counted: Tensor | None) -> Tensor:
    """The mean over what counts; 0 where nothing does."""
    if counted is None:
        return values.mean()
    return torch.where(counted, values, 0.0).sum() / _at_least_one(counted)


def _at_least_one(counted: Tensor) -> Tensor:
    return counted.sum().clamp(min=1)


def _wide(logits: Tensor) -> Tensor:
    """In float32, but for float64: half precision makes a divergence negative."""
    return logits if logits.dtype == torch.float64 else logits.float()
