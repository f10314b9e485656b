"""What a training step minimizes, and what its mean is over: accumulation has to know.

A loss is any function of a model's output and the batch (``Inputs`` with labels) that returns the mean over some terms,
a scalar. Where these are not the examples of the batch, it has a method ``terms(batch)`` that counts them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from perfsuite._compat.torch import has_values
from perfsuite.errors import UsageError
from perfsuite.protocols import Inputs
from perfsuite.techniques.common import main_output
from perfsuite.training.batches import batch_size_of

Loss = Callable[[Any, Inputs], Tensor]


@dataclass(frozen=True)
class CrossEntropy:
    """Of logits (B, C) with labels (B,), or (B, T, C) with (B, T): the mean over labels that are not ``ignore_index``.

    ``shift``: the label of a position is what stands at the next one, as in causal language models.
    """

    ignore_index: int = -100
    label_smoothing: float = 0.0
    shift: bool = False

    def __call__(self, output: Any, batch: Inputs) -> Tensor:
        logits, labels = main_output(output), self._labels(batch)
        if self.shift:
            logits = logits[:, :-1]
        rows = logits.reshape(-1, logits.shape[-1])  # (N, C)
        return F.cross_entropy(
            rows.float() if rows.element_size() < 4 else rows, labels.reshape(-1),
            ignore_index=self.ignore_index, label_smoothing=self.label_smoothing,
        )  # fmt: skip

    def terms(self, batch: Inputs) -> int:
        return int((self._labels(batch) != self.ignore_index).sum())

    def _labels(self, batch: Inputs) -> Tensor:
        labels = labels_of(batch)
        return labels[:, 1:] if self.shift else labels


@dataclass(frozen=True)
class OwnLoss:
    """The loss that a model computes itself from ``labels``, as those of transformers do.

    Its mean is over the examples, or where each has several labels, over those that are not ``ignore_index``; with
    ``shift``, of those from the second position on.
    """

    ignore_index: int = -100
    shift: bool = False
    labels_to_model = True  # as an argument of that name

    def __call__(self, output: Any, batch: Inputs) -> Tensor:
        loss = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
        if not isinstance(loss, Tensor):
            raise UsageError(
                f"the model has no loss: its output, a {type(output).__name__}, holds none, and its spec brings none",
                _GIVE_ONE,
            )
        return loss

    def terms(self, batch: Inputs) -> int:
        labels = labels_of(batch)
        if labels.dim() < 2 or labels.is_floating_point():
            return batch_size_of(batch)
        return int(((labels[:, 1:] if self.shift else labels) != self.ignore_index).sum())


def loss_for(model: nn.Module, given: Loss | None) -> Loss:
    """The loss of a spec, or the model's own. Raises UsageError for a model without either."""
    if given is not None:
        return given
    if "labels" not in inspect.signature(model.forward).parameters:
        raise UsageError(
            f"the model has no loss: its spec brings none, and a {type(model).__name__} takes no labels", _GIVE_ONE
        )
    return OwnLoss()


_GIVE_ONE = "give it one: ModelSpec(..., loss=perfsuite.training.losses.CrossEntropy())"


def labels_of(batch: Inputs) -> Tensor:
    """The labels that came with a batch. Raises UsageError where there are none."""
    labels = batch.labels if batch.labels is not None else batch.kwargs.get("labels")
    if not isinstance(labels, Tensor):
        raise UsageError(
            "a batch has no labels, and the loss needs them",
            "give the spec labelled batches: ModelSpec(..., data=make), where make(module, batch_size, seed) yields "
            "[inputs, labels] or a dict with 'labels'",
        )
    return labels


def terms_of(loss: Loss, batch: Inputs) -> int:
    """What the mean of a loss is over, of one batch: what the loss says, or else the examples.

    Labels without values cannot be counted: there, examples stand for them.
    """
    terms = getattr(loss, "terms", None)
    if terms is None or (isinstance(batch.labels, Tensor) and not has_values(batch.labels)):
        return batch_size_of(batch)
    return int(terms(batch))
