"""A workload by the names that a case has. Importing this imports no torch."""

from __future__ import annotations

from perfsuite.case import TRAIN
from perfsuite.protocols import Workload
from perfsuite.registry import RECIPES, WORKLOADS, RecipeFactory, Registry


def chosen_workload(
    name: str,
    recipe: str,
    seed: int,
    workloads: Registry[Workload] = WORKLOADS,
    recipes: Registry[RecipeFactory] = RECIPES,
) -> Workload:
    """By name; a training step by its recipe, too. Raises UnknownNameError for either."""
    workload = workloads.get(name)
    if name != TRAIN:
        return workload
    from perfsuite.workloads.train import by_recipe

    return by_recipe(workload, recipe, seed, recipes)
