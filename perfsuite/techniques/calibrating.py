"""Running a model over calibration data: one loop for all who need it, with progress and clear failure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perfsuite.errors import TechniqueError
from perfsuite.progress import tell
from perfsuite.protocols import Inputs
from perfsuite.techniques.common import main_output

if TYPE_CHECKING:
    from perfsuite.techniques.recorded import Digested


def batches(model: nn.Module, data: Digested, what: str) -> Iterator[Inputs]:
    """Every batch of calibration data on the model's device; ``what`` is told as progress.

    Raises TechniqueError if there is no data, or none of it.
    """
    if not data:
        raise TechniqueError(f"{what} needs calibration data", "give some: apply(model, data=batches of real inputs)")
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    for number, inputs in enumerate(data, start=1):
        yield inputs.to(device)
        tell(what, number, max(number, len(data)))
    if data.batches == 0:
        raise TechniqueError(f"{what}: the calibration loader is empty", "give at least one batch of real inputs")


def loss_of(model: nn.Module, inputs: Inputs) -> Tensor:
    """The loss on one batch.

    With integer labels (N,): cross entropy of the main output (N, C). With others: the mean squared
    error. Without labels: the mean square of the main output, so that gradients say what moves it.
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
    return F.cross_entropy(output.flatten(0, -2), labels.flatten())


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
