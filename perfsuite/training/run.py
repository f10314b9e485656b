"""A model in training: one step from a given state, again and again, or a run of several."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from perfsuite.errors import UsageError
from perfsuite.models.devices import device_of
from perfsuite.models.seeding import seeded
from perfsuite.protocols import Inputs, ModelSpec, Recipe
from perfsuite.training.batches import batch_size_of
from perfsuite.training.plan import StepPlan
from perfsuite.training.snapshot import Snapshot
from perfsuite.training.step import (
    PlainStep,
    SharedStep,
    Step,
    check_finite_step,
    gradients_of,
    make_step,
    state_of,
)

After = Callable[[int, Tensor], object]
UPDATED = "updated {}"
GRADIENT = "gradient of {}"
LOSS = "loss"


class Training:
    """Steps of a model by a recipe. The state before the first is the model's, with an optimizer that has made one.

    Moments that are zero would hide much: of Adam's first step, every constant factor of the gradients. So one plain
    step is made, whatever the recipe, and of it the optimizer's state is kept. Raises UsageError for a model without a
    loss, labels or weights to train; NonFiniteError for a loss that is NaN or infinite.
    """

    def __init__(self, model: nn.Module, spec: ModelSpec, inputs: Inputs, recipe: Recipe, seed: int = 0) -> None:
        self.spec = spec
        self.recipe = recipe
        self.seed = seed
        self._model = model
        self._size = batch_size_of(inputs)
        self._given = inputs
        self.batch = next(self.batches())
        plain = StepPlan.plain(model, spec, self.batch, seed)
        self.plan = plain.by(recipe)
        self.step = self._started(plain)
        self._snapshot = Snapshot(self.step)

    def once(self) -> Tensor:
        """One step on the first batch; its mean loss."""
        return self._made([self.batch], self.seed)[0]

    def run(self, steps: int, seed: int | None = None, after: After | None = None, quiet: bool = False) -> list[Tensor]:
        """The mean losses of so many steps, each before its update, from the state as it is now.

        ``seed``: of the data and of all that is drawn. ``after`` is called after each step with its number and loss;
        the run ends where it returns True. ``quiet``: in eval mode, where nothing is drawn.
        """
        seed = self.seed if seed is None else seed
        return self._made(itertools.islice(self.batches(seed), steps), seed, after or _go_on, training=not quiet)

    def resume(self, begun: int, steps: int) -> list[Tensor]:
        """The rest of a run that has made ``begun`` steps: random numbers go on from where they are."""
        return self._made(itertools.islice(self.batches(), begun, steps), None, _go_on)

    def again(self) -> Training:
        """The same from the start, on a copy of the model as it is now: before the first step, or after a restore."""
        return Training(copy.deepcopy(self._model), self.spec, self._given, self.recipe, self.seed)

    def restore(self) -> None:
        self._snapshot.restore()

    def batches(self, seed: int | None = None) -> Iterator[Inputs]:
        """Those that it is trained on, from its seed or another."""
        return labelled_batches(self.spec, self._model, self._size, self.seed if seed is None else seed)

    def outputs(self, quiet: bool = False) -> Mapping[str, Tensor]:
        """What one step gives: the loss, the gradients that the optimizer saw, and the weights that it left.

        ``quiet``: in eval mode, where nothing is drawn.
        """
        found = {LOSS: self._made([self.batch], self.seed, training=not quiet)[0].reshape(1)}
        found |= {GRADIENT.format(name): gradient for name, gradient in gradients_of(self.step).items()}
        weights = state_of(self.step)
        trained = [name for name, parameter in self.step.model.named_parameters() if parameter.requires_grad]
        return found | {UPDATED.format(name): weights[name].detach().clone() for name in trained}

    def close(self) -> None:
        """End other processes that make the step, if there are any; else they end when this is no longer there."""
        if isinstance(self.step, SharedStep):
            self.step.close()

    @property
    def held(self) -> tuple[Tensor, ...]:
        """What is alive all along: weights, buffers, and the optimizer's state."""
        return (*self.weights, *self.optimizer_state())

    @property
    def weights(self) -> tuple[Tensor, ...]:
        """Parameters and buffers, of the model and of what stands beside it."""
        modules = (self.step.model, *self.plan.beside)
        return tuple(tensor for module in modules for tensor in (*module.parameters(), *module.buffers()))

    def optimizer_state(self) -> tuple[Tensor, ...]:
        states = self.step.optimizer.state.values()
        return tuple(value for state in states for value in state.values() if isinstance(value, Tensor))

    def _made(
        self, batches: Iterable[Inputs], seed: int | None, after: After | None = None, training: bool = True
    ) -> list[Tensor]:
        """A step on each batch. Losses are looked at where ``after`` is told of them: one step alone is to be timed."""
        self.step.model.train(training)
        losses: list[Tensor] = []
        with nullcontext() if seed is None else seeded(seed), torch.enable_grad():
            for number, batch in enumerate(batches, start=1):
                losses.append(self.step(batch))
                if after is None:
                    continue
                check_finite_step(self.step, losses[-1], number)
                if after(number, losses[-1]):
                    break
        return losses

    def _started(self, plain: StepPlan) -> Step:
        """The step of the recipe, whose optimizer has the state that one plain step leaves."""
        first = PlainStep(plain)
        before = Snapshot(first)
        plain.model.train()
        with seeded(self.seed), torch.enable_grad():
            check_finite_step(first, first(self.batch), 1)
        state = _optimizer_state(first)
        before.restore()
        step = make_step(self.plan)
        if type(step.optimizer) is type(first.optimizer):
            _start_from(step, state)
        return step


def labelled_batches(spec: ModelSpec, model: nn.Module, size: int, seed: int) -> Iterator[Inputs]:
    """What a model is trained on, on its device, from the seed; from the start again where the data end.

    Raises UsageError, with the first one, where the data hold none of that size.
    """
    device = device_of(model)
    return (Inputs.of_batch(batch).to(device) for batch in _endless(spec, model, size, seed))


def _endless(spec: ModelSpec, model: nn.Module, size: int, seed: int) -> Iterator[Any]:
    if spec.data is None:
        return (spec.inputs(model, size, (seed + n) % 2**32) for n in itertools.count())
    return _repeated(spec, spec.data, model, size, seed)


def _repeated(
    spec: ModelSpec, make: Callable[[nn.Module, int, int], Any], model: nn.Module, size: int, seed: int
) -> Iterator[Any]:
    while True:
        is_empty = True
        for batch in make(model, size, seed):
            is_empty = False
            yield batch
        if is_empty:
            raise UsageError(f"the data of {spec.name!r} hold no batch of {size}", "gate a smaller batch size")


def _go_on(number: int, loss: Tensor) -> None:
    """A run that nobody watches goes on to its end."""


def _optimizer_state(step: Step) -> dict[str, dict[str, Any]]:
    """By the names of parameters: a recipe may train another module with the same ones."""
    state = step.optimizer.state
    return {name: state[parameter] for name, parameter in step.model.named_parameters() if parameter in state}


def _start_from(step: Step, state: Mapping[str, dict[str, Any]]) -> None:
    if isinstance(step, SharedStep):
        step.start_from(state)
        return
    for name, parameter in step.model.named_parameters():
        if name in state:
            step.optimizer.state[parameter] = state[name]
