"""Distillation in one call."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from perfsuite.distillation.config import DistillationConfig
from perfsuite.distillation.data import data_of
from perfsuite.distillation.layers import LayerLoss
from perfsuite.distillation.loss import DistillationLoss
from perfsuite.distillation.step import Loss
from perfsuite.distillation.trainer import Distilled, MakeOptimizer, Run, Task
from perfsuite.errors import UsageError


def distill(
    teacher: nn.Module,
    student: nn.Module,
    data: Any,
    config: DistillationConfig | None = None,
    *,
    loss: Loss | None = None,
    hidden: LayerLoss | Iterable[LayerLoss] = (),
    score: Callable[[nn.Module], float] | None = None,
    optimizer: MakeOptimizer | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Distilled:
    """Train a student, in place, to answer as its teacher does, which is never changed.

    ``data``: ``Examples``, a list of batches, or a DataLoader. A batch is a tensor, a list of input and labels, or a
    dict with ``labels``; without any, use ``DistillationLoss(alpha=1)``. ``options`` are fields of the config.

    ``loss`` is one of logits, by default ``DistillationLoss()``; ``hidden`` are losses between layers, with which the
    teacher is asked in each epoch. ``score`` gives a model's accuracy on examples of its own, for ``floor`` and for the
    account. ``optimizer`` makes one of a list of parameters; its learning rate is the highest of the schedule.
    ``checkpoint`` is a folder: a run that finds its own checkpoint there goes on, and ends as if it had never stopped.

    Raises UsageError for what does not fit together, NonFiniteError for a loss or gradient that is lost, with the step,
    and StorageError for a checkpoint that is broken, of another run, or that cannot be written.
    """
    settings = _settings(config or DistillationConfig(), options)
    if settings.floor is not None and score is None:
        raise UsageError("a floor needs a score to compare with", "give score=, a function that scores a model")
    layers = (hidden,) if isinstance(hidden, LayerLoss) else tuple(hidden)
    make = optimizer or partial(torch.optim.AdamW, lr=settings.learning_rate)
    task = Task(teacher, student, data_of(data), settings, loss or DistillationLoss(), layers, score, make)
    return Run(task, None if checkpoint is None else Path(checkpoint)).finish()


def _settings(config: DistillationConfig, options: dict[str, Any]) -> DistillationConfig:
    try:
        return replace(config, **options)
    except TypeError as error:
        raise UsageError(f"distill: {error}", "see the fields of DistillationConfig") from error
