"""Making optimizer steps as a plan says, in the plainest way that is right: everything else is compared with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from perfsuite._compat.torch import has_values
from perfsuite.errors import NonFiniteError, UsageError
from perfsuite.phases import BACKWARD, FORWARD, OPTIMIZER, phase
from perfsuite.protocols import Inputs
from perfsuite.training.batches import split
from perfsuite.training.losses import Loss, terms_of
from perfsuite.training.plan import StepPlan


class Step(Protocol):
    """Makes optimizer steps of a model. Ours is ``PlainStep``; a trainer of somebody else is wrapped into another.

    Gradients of the last step stay in the parameters until the next one. ``optimizer``, ``schedule`` and ``scaler``
    hold what a step changes beside the model. A step in several processes is a ``SharedStep``.
    """

    model: nn.Module
    optimizer: Optimizer
    schedule: LRScheduler | None
    scaler: GradScaler | None

    def __call__(self, batch: Inputs) -> Tensor:
        """One optimizer step on the whole batch; the mean loss over its terms, detached."""


@runtime_checkable
class SharedStep(Step, Protocol):
    """One that other processes make together with this one, from the same state. Parameters may be shards."""

    def start_from(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Take that state of the optimizer, by the names of parameters, in all processes."""

    def keep(self) -> Callable[[], object]:
        """Remember the state of the other processes; what is returned brings it back."""

    def whole(self, kind: Literal["gradients", "state"]) -> Mapping[str, Tensor]:
        """The gradients by parameter, or the state dict, whole, whatever shards they are kept in."""

    def checksums(self) -> tuple[int, ...]:
        """Of the state dict that each process has, in their order: all equal where all have the same, bit for bit."""

    def close(self) -> None:
        """End the other processes."""


class PlainStep:
    """A plan, carried out. Raises UsageError for a model of which nothing can be trained."""

    def __init__(self, plan: StepPlan) -> None:
        self.plan = plan
        self.model = plan.model
        self.parameters = trainable(plan.model)
        self.optimizer = plan.make_optimizer(self.parameters)
        self.scaler = plan.make_scaler() if plan.make_scaler else None
        self.schedule = plan.make_schedule(self.optimizer, plan.steps) if plan.make_schedule else None
        self._call = plan.model if plan.call is None else plan.call
        self._taken = _Taken()
        self.optimizer.register_step_post_hook(self._taken)

    def __call__(self, batch: Inputs, terms: float | None = None) -> Tensor:
        """``terms``: what the mean is over that the batch has a share in; its own where it is the whole batch."""
        total = self.backward(batch, terms)
        with phase(OPTIMIZER):
            self._update()
        return total

    def backward(self, batch: Inputs, terms: float | None = None) -> Tensor:
        """The gradients of a step, without its update."""
        plan = self.plan
        if terms is None and plan.micro_batches > 1:
            terms = terms_of(plan.loss, batch)
        with phase(OPTIMIZER):
            self.optimizer.zero_grad(set_to_none=True)
        losses: list[Tensor] = []
        parts = list(split(batch, plan.micro_batches))
        for number, part in enumerate(parts, start=1):
            share = 1.0 if terms is None else _share(terms_of(plan.loss, part), terms)
            with plan.around_micro_batch(number == len(parts)):
                losses.append(self._forward_and_backward(part, share))
        return sum(losses[1:], losses[0])  # in the precision that the loss has

    def _forward_and_backward(self, part: Inputs, share: float) -> Tensor:
        """Its share of the mean over the whole batch, which is not the mean of means where labels are ragged."""
        with phase(FORWARD), self.plan.around_forward():
            loss = loss_of(self._call, self.plan.loss, part)
            loss = (loss if share else loss.nan_to_num()) * share  # a mean over no terms is 0/0, and counts for nothing
        with phase(BACKWARD):
            (loss if self.scaler is None else self.scaler.scale(loss)).backward()
        return loss.detach()

    def _update(self) -> None:
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        for change in self.plan.on_gradients:
            change(self.parameters)
        before = self._taken.steps
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        if self.schedule is not None and self._taken.steps > before:
            self.schedule.step()


class _Taken:
    """Counts steps: a scaler does not say whether it has skipped one; the optimizer knows. A step is not held by it."""

    def __init__(self) -> None:
        self.steps = 0

    def __call__(self, *_: object) -> None:
        self.steps += 1


def _share(part: int, terms: float) -> float:
    """Of a whole without any term, the mean is none."""
    return part / terms if terms else math.nan


def loss_of(call: Any, loss: Loss, batch: Inputs) -> Tensor:
    """The mean loss of one forward pass. Raises UsageError where it is no scalar that depends on the weights."""
    kwargs = batch.kwargs
    if getattr(loss, "labels_to_model", False) and batch.labels is not None:
        kwargs = {**kwargs, "labels": batch.labels}
    found = loss(call(*batch.args, **kwargs), batch)
    if not isinstance(found, Tensor) or found.numel() != 1:
        what = f"a tensor of shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
        raise UsageError(f"the loss is {what}", "let it return the mean over its terms, a tensor with one number")
    if torch.is_grad_enabled() and not found.requires_grad:
        raise UsageError(
            "the loss does not depend on any weight that can be trained", "compute it in torch, from the model's output"
        )
    return found.reshape(())


def make_step(plan: StepPlan) -> Step:
    return plan.make_step(plan) if plan.make_step else PlainStep(plan)


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """Parameters that ask for gradients. Raises UsageError where none does."""
    found = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not found:
        raise UsageError(
            f"no parameter of the {type(model).__name__} is trained: all of them are frozen",
            "set requires_grad in the spec's build for those that are, or train what leaves weights to train",
        )
    return found


def gradients_of(step: Step) -> Mapping[str, Tensor]:
    """Those of the last step, whole, by the names of parameters; not of what the loss does not depend on."""
    if isinstance(step, SharedStep):
        return step.whole("gradients")
    return {name: p.grad.detach().clone() for name, p in step.model.named_parameters() if p.grad is not None}


def state_of(step: Step) -> Mapping[str, Tensor]:
    """The state dict of the model, whole: what the plain model loads."""
    return step.whole("state") if isinstance(step, SharedStep) else step.model.state_dict()


def first_lost(parameters: Iterable[tuple[str, nn.Parameter]]) -> str:
    """In words, whose gradient is the first that is not finite; empty where all are."""
    gradients = ((name, parameter.grad) for name, parameter in parameters if parameter.grad is not None)
    name = next((name for name, gradient in gradients if not bool(gradient.isfinite().all())), None)
    return "" if name is None else f"the first gradient that is not finite is that of {name!r}"


def check_finite_step(step: Step, loss: Tensor, number: int) -> None:
    """Raises NonFiniteError for a loss that is none, with the first parameter whose gradient is not finite."""
    if not has_values(loss) or bool(torch.isfinite(loss)):
        return
    lost = first_lost(step.model.named_parameters())
    raise NonFiniteError(
        f"the loss is {float(loss)} at step {number}; {lost or 'all gradients are finite'}",
        "look at the batch and the learning rate, or train in bf16 in the place of fp16",
    )
