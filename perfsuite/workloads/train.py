"""One optimizer step, from the same state each time: weights, optimizer, schedule, random numbers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from torch import nn

from perfsuite.case import TRAIN
from perfsuite.errors import UsageError
from perfsuite.protocols import AUTOGRAD, Inputs, ModelSpec, Prepared, Program, Recipe, Workload
from perfsuite.recipes.plain import PLAIN
from perfsuite.recipes.values import parse_recipe
from perfsuite.registry import RECIPES, RecipeFactory, Registry
from perfsuite.training.run import Training


@dataclass(frozen=True)
class Train:
    """A step as its recipe says. Its outputs are the loss, the gradients and the updated weights.

    It trains the module that it is given, and takes back what it has done before each repetition.
    """

    recipe: Recipe = field(default_factory=lambda: PLAIN)
    seed: int = 0
    name: str = TRAIN
    needs: frozenset[str] = AUTOGRAD

    def prepare(self, program: Program, spec: ModelSpec, inputs: Inputs) -> Prepared:
        """Raises UsageError, NonFiniteError for what cannot be trained."""
        if not isinstance(program.call, nn.Module):
            raise UsageError(f"a {type(program.call).__name__} has no parameters to train", "give an nn.Module")
        training = Training(program.call, spec, inputs, self.recipe, self.seed)
        return Prepared(
            training.once, training.restore, training.held, training.outputs, training.batch, training
        )  # fmt: skip


WORKLOAD = Train()


def by_recipe(workload: Workload, recipe: str, seed: int, registry: Registry[RecipeFactory] = RECIPES) -> Workload:
    """The training step by a recipe, drawing what it draws from a seed; what is no step of ours stays as it is."""
    if not isinstance(workload, Train):
        return workload
    return replace(workload, recipe=parse_recipe(recipe, registry), seed=seed)
