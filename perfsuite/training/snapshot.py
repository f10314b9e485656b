"""Taking a step back: all that it changes is put back where it stood, in the same memory."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from perfsuite.training.step import SharedStep, Step


class Snapshot:
    """The state of a step's model, optimizer, schedule and scaler, as it is now, in all processes that make it.

    Gradients are none afterwards.
    """

    def __init__(self, step: Step) -> None:
        self._step = step
        model = step.model
        self._tensors = [(tensor, tensor.detach().clone()) for tensor in (*model.parameters(), *model.buffers())]
        self._modes = [(module, module.training) for module in model.modules()]
        self._state = {parameter: _kept(state) for parameter, state in step.optimizer.state.items()}
        self._groups = [_without_parameters(group) for group in step.optimizer.param_groups]
        self._others = [
            (part, copy.deepcopy(part.state_dict())) for part in (step.schedule, step.scaler) if part is not None
        ]
        self._restore_elsewhere = step.keep() if isinstance(step, SharedStep) else None

    def restore(self) -> None:
        if self._restore_elsewhere is not None:
            self._restore_elsewhere()
        with torch.no_grad():
            for tensor, value in self._tensors:
                tensor.copy_(value)
        for module, mode in self._modes:
            module.training = mode
        for parameter in self._step.model.parameters():
            parameter.grad = None
        self._restore_optimizer()
        for part, state in self._others:
            part.load_state_dict(copy.deepcopy(state))

    def _restore_optimizer(self) -> None:
        optimizer = self._step.optimizer
        for parameter in [one for one in optimizer.state if one not in self._state]:
            del optimizer.state[parameter]
        for parameter, kept in self._state.items():
            _put_back(optimizer.state[parameter], kept)
        for group, kept in zip(optimizer.param_groups, self._groups, strict=True):
            group.update(copy.deepcopy(kept))


def _kept(state: dict[str, Any]) -> dict[str, Any]:
    return {name: value.clone() if isinstance(value, Tensor) else copy.deepcopy(value) for name, value in state.items()}


def _put_back(state: dict[str, Any], kept: dict[str, Any]) -> None:
    for name, value in kept.items():
        if isinstance(value, Tensor) and isinstance(state.get(name), Tensor):
            state[name].copy_(value)
        else:
            state[name] = copy.deepcopy(value)


def _without_parameters(group: dict[str, Any]) -> dict[str, Any]:
    return copy.deepcopy({name: value for name, value in group.items() if name != "params"})
