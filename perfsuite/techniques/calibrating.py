"""Running a model over calibration data: one loop for all who need it, with progress and clear failure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from perfsuite.errors import TechniqueError
from perfsuite.models.devices import device_of
from perfsuite.progress import tell
from perfsuite.protocols import Inputs
from perfsuite.techniques.common import main_output

if TYPE_CHECKING:
    from perfsuite.techniques.recorded import Digested

_IGNORED = -100  # the label that torch's cross entropy leaves out by default


def batches(model: nn.Module, data: Digested, what: str) -> Iterator[Inputs]:
    """Every batch of calibration data on the model's device; ``what`` is told as progress.

    Raises TechniqueError if there is no data, or none of it.
    """
    if not data:
        raise TechniqueError(f"{what} needs calibration data", "give some: apply(model, data=batches of real inputs)")
    device = device_of(model)
    for number, inputs in enumerate(data, start=1):
        yield inputs.to(device)
        tell(what, number, max(number, len(data)))
    if data.batches == 0:
        raise TechniqueError(f"{what}: the calibration loader is empty", "give at least one batch of real inputs")


def loss_of(model: nn.Module, inputs: Inputs) -> Tensor:
    """The loss on one batch.

    With integer labels, cross entropy of the main output: of (N, C) for labels (N,), of tokens (N, T, C) for (N, T),
    of images (N, C, H, W) or steps (N, C, L), as torch has them, for (N, H, W) or (N, L). With others: the mean
    squared error. Without labels: the mean square of the main output, so that gradients say what moves it.

    Raises TechniqueError for labels that do not fit the output, or fit it in two ways.
    """
    output = main_output(model(*inputs.args, **inputs.kwargs))
    labels = inputs.labels
    if labels is None:
        return output.square().mean()
    if labels.is_floating_point():
        if labels.numel() != output.numel():
            raise TechniqueError(
                f"labels of shape {tuple(labels.shape)} do not fit an output of {tuple(output.shape)}",
                "give as many numbers as the model does, or integer classes",
            )
        return F.mse_loss(output, labels.view_as(output))
    return _cross_entropy(output, labels)


def _cross_entropy(output: Tensor, labels: Tensor) -> Tensor:
    """Over the dimension of the output that labels leave: the last one, or the one after the batch."""
    shape = output.shape
    by_dim = {output.dim() - 1: shape[:-1], 1: (*shape[:1], *shape[2:])} if output.dim() > 1 else {}
    fitting = [dim for dim, left in by_dim.items() if _fits(labels, left)]
    if len(fitting) != 1:
        how = "in two ways" if fitting else "in no way"
        raise TechniqueError(
            f"labels of shape {tuple(labels.shape)} fit an output of {tuple(shape)} {how}: its classes are to be in "
            "the last dimension, or in the one after the batch",
            "give batches that have another length than there are classes" if fitting else "give a class for each item",
        )
    logits, flat = output.movedim(fitting[0], -1).flatten(0, -2), labels.flatten().long()
    foreign = flat[((flat < 0) | (flat >= logits.shape[1])) & (flat != _IGNORED)]
    if foreign.numel():
        raise TechniqueError(
            f"a label is {int(foreign[0])}, the model has {logits.shape[1]} classes",
            f"give classes from 0, or {_IGNORED} for what does not count",
        )
    return F.cross_entropy(logits, flat, ignore_index=_IGNORED)


def _fits(labels: Tensor, left: Sequence[int]) -> bool:
    """Whether there is a label for each item: in its place, or all of them in a row."""
    return tuple(labels.shape) in (tuple(left), (*left, 1)) or tuple(labels.shape) == (math.prod(left),)


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Run the body with the model in eval mode; each module is put back into its own mode."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
