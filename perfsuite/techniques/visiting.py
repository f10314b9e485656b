"""Calling somebody's model and leaving it as it was: its modes, attributes and buffers, and the random generators."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from perfsuite._compat.torch import own_buffers
from perfsuite.protocols import wants_gradients
from perfsuite.techniques.calibrating import in_eval_mode
from perfsuite.techniques.counting import integer_form


@contextmanager
def visited(*models: nn.Module) -> Iterator[None]:
    """Run the body with models in eval mode, without gradients where they want none; afterwards all is as before."""
    kept = [(module, dict(vars(module)), _buffers(module)) for model in models for module in model.modules()]
    grads = any(wants_gradients(model) for model in models)
    with _generators(), torch.set_grad_enabled(grads), _all_in_eval_mode(models):
        try:
            yield
        finally:
            for module, attributes, buffers in kept:
                _restore(module, attributes, buffers)


def seed() -> None:
    """The same random numbers for each call, of a model that draws some."""
    torch.default_generator.manual_seed(0)  # torch.manual_seed would import torch._dynamo: two seconds
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(0)
    random.seed(0)
    np.random.seed(0)


def _buffers(module: nn.Module) -> dict[str, tuple[Tensor, Tensor]]:
    """Each buffer with a copy of its values; but for quantized weights, which no forward pass writes to."""
    if integer_form(module):
        return {}
    return {name: (b, b.detach().clone()) for name, b in own_buffers(module).items() if b is not None}


def _restore(module: nn.Module, attributes: dict[str, Any], buffers: dict[str, tuple[Tensor, Tensor]]) -> None:
    vars(module).clear()
    vars(module).update(attributes)
    with torch.no_grad():
        for name, (buffer, values) in buffers.items():
            own_buffers(module)[name] = buffer
            if buffer.shape == values.shape and not torch.equal(buffer, values):
                buffer.copy_(values)


@contextmanager
def _all_in_eval_mode(models: tuple[nn.Module, ...]) -> Iterator[None]:
    if not models:
        yield
        return
    with in_eval_mode(models[0]), _all_in_eval_mode(models[1:]):
        yield


@contextmanager
def _generators() -> Iterator[None]:
    """Python's, NumPy's and torch's generators are as before afterwards."""
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.default_generator.set_state(cpu)
        if gpus:
            torch.cuda.set_rng_state_all(gpus)
