"""What all trainers of others have in common: they are recipes, and clear away what a step leaves to be seen."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.optim import Optimizer

from perfsuite.errors import UsageError
from perfsuite.optional import optional
from perfsuite.phases import BACKWARD, FORWARD, OPTIMIZER, phase
from perfsuite.protocols import Inputs
from perfsuite.training.plan import StepPlan
from perfsuite.training.step import Step

_THEIRS = frozenset({"micro_batches", "call", "make_scaler", "make_schedule", "around_forward", "around_micro_batch",
                     "on_gradients"})  # fmt: skip


@dataclass(frozen=True)
class TrainerRecipe:
    """The step of somebody's trainer, under a name: a recipe, and what is registered as one.

    ``make(model)`` makes the trainer, for the model that it is given. All of the step is the trainer's, its
    accumulation, optimizer, schedule and precision: what other recipes would change is refused. Of the spec come the
    model, the batches, and the loss and optimizer of ``plain``, which it is compared with; both draw otherwise, so that
    they are compared with nothing drawn. Where a package is not installed, the first step raises UnavailableError.
    """

    name: str
    make: Callable[[nn.Module], Any]

    is_whole = True
    needs: ClassVar[tuple[str, ...]] = ()  # packages

    def __call__(self, argument: str | None = None) -> TrainerRecipe:
        """As a factory of recipes. Raises UsageError for an argument."""
        if argument is not None:
            raise UsageError(f"recipe {self.name!r} takes no argument, not {argument!r}", f"write {self.name!r}")
        return self

    def apply(self, plan: StepPlan) -> StepPlan:
        if plan.make_step is not None:
            raise UsageError(f"the step is made by another recipe than {self.name!r}", f"gate {self.name!r} alone")
        return replace(plan, make_step=self._step, draws_alike=False)

    def step(self, plan: StepPlan, made: Any) -> Step:
        """Of what ``make`` has made."""
        raise NotImplementedError

    def _step(self, plan: StepPlan) -> Step:
        changed = [field.name for field in fields(plan) if field.name in _THEIRS]
        changed = [name for name in changed if getattr(plan, name) != StepPlan.__dataclass_fields__[name].default]
        if changed:
            raise UsageError(
                f"the trainer {self.name!r} makes all of its step: the {changed[0]} of another recipe would be lost",
                f"gate {self.name!r} alone, and tell the trainer itself",
            )
        for package in self.needs:
            optional(package, f"the trainer {self.name!r}")
        return self.step(plan, self.make(plan.model))


class Seen:
    """What is seen of a step while a trainer makes it: its phases, and the gradients that its optimizer got.

    A micro-batch is forward until its backward pass begins, and after the last of them all is the optimizer's.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer) -> None:
        self._model = model
        self._parameters = list(model.parameters())
        self._gradients: list[Tensor | None] = []
        self._left: list[Tensor | None] = []
        self._waiting = 0
        self._open = ExitStack()
        optimizer.register_step_post_hook(self._note_gradients)

    @contextmanager
    def step(self, micro_batches: int) -> Iterator[None]:
        """While open, the trainer makes a step of so many. Afterwards gradients are in the parameters."""
        self._take_back_gradients()
        self._waiting, self._gradients = micro_batches, []
        try:
            with _kept_in_mode(self._model):
                yield
        finally:
            self._open.close()
            self._hand_back_gradients()

    def forward(self) -> None:
        """A micro-batch begins."""
        self._enter(FORWARD)

    def backward(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The trainer's own backward pass, heard of."""

        def heard(*args: Any, **kwargs: Any) -> Any:
            self._enter(BACKWARD)
            found = call(*args, **kwargs)
            self._waiting -= 1
            self._open.close()
            if not self._waiting:
                self._enter(OPTIMIZER)
            return found

        return heard

    def _enter(self, name: str) -> None:
        self._open.close()
        self._open.enter_context(phase(name))

    def _note_gradients(self, *_: object) -> None:
        self._gradients = [parameter.grad for parameter in self._parameters]

    def _hand_back_gradients(self) -> None:
        self._left = [parameter.grad for parameter in self._parameters]
        for parameter, gradient in zip(self._parameters, self._gradients, strict=False):
            parameter.grad = gradient

    def _take_back_gradients(self) -> None:
        """What the trainer left there itself: one that forgets to clear them is not helped."""
        for parameter, handed, left in zip(self._parameters, self._gradients, self._left, strict=False):
            if parameter.grad is handed:
                parameter.grad = left


@contextmanager
def _kept_in_mode(model: nn.Module) -> Iterator[None]:
    """In eval mode, trainers that call ``train()`` before each step do not change it."""
    if model.training:
        yield
        return
    model.train = lambda mode=True: model  # type: ignore[method-assign]
    try:
        yield
    finally:
        del model.train


def as_keywords(model: nn.Module, batch: Inputs) -> dict[str, Any]:
    """A batch as a dict, with its labels: arguments by the names that the model gives them."""
    found: Mapping[str, Any] = inspect.signature(model.forward).bind_partial(*batch.args).arguments
    labels = {} if batch.labels is None else {"labels": batch.labels}
    return {**found, **batch.kwargs, **labels}


def as_loaded(batch: Inputs) -> Any:
    """A batch as its loader gave it: a dict with its labels, or a list of the input and the labels."""
    if batch.kwargs or not batch.args:
        return as_keywords(nn.Identity(), replace(batch, args=()))
    given = batch.args[0] if len(batch.args) == 1 else batch.args
    return given if batch.labels is None else [given, batch.labels]


def check_trained(plan: StepPlan, optimizer: Optimizer, name: str) -> None:
    """Raises UsageError where a trainer's optimizer does not have the model's own parameters."""
    mine = {id(parameter) for parameter in plan.model.parameters()}
    theirs = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if not theirs or any(id(parameter) not in mine for parameter in theirs):
        raise UsageError(
            f"the trainer {name!r} trains other parameters than those of the model that is gated",
            "let make(model) train the model that it is given, and no other",
        )
