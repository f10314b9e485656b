"""Recipes by name: ``family`` or ``family-argument``, joined by "+" in the order in which they change the step."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

from perfsuite.errors import UnknownNameError, UsageError
from perfsuite.protocols import Recipe
from perfsuite.recipes.plain import PLAIN
from perfsuite.registry import RECIPES, RecipeFactory, Registry
from perfsuite.training.plan import StepPlan


@dataclass(frozen=True)
class Composed:
    """Recipes that change a step one after the other: ``bf16-amp+checkpoint``."""

    parts: tuple[Recipe, ...]

    @property
    def name(self) -> str:
        return "+".join(part.name for part in self.parts)

    def apply(self, plan: StepPlan) -> StepPlan:
        """What trains another module comes first: the others change how that is called."""
        ordered = sorted(self.parts, key=lambda part: not getattr(part, "replaces_model", False))
        return reduce(lambda changed, part: part.apply(changed), ordered, plan)


def parse_recipe(name: str, registry: Registry[RecipeFactory] = RECIPES) -> Recipe:
    """Raises UnknownNameError with the nearest names, UsageError for a bad argument, or one recipe twice."""
    parts = tuple(_parse_part(part.strip(), registry) for part in name.split("+"))
    families = [type(part) for part in parts]
    twice = next((part.name for part in parts if families.count(type(part)) > 1), None)
    if twice is not None:
        raise UsageError(f"the recipe {name!r} has {twice!r} and another of its kind", "name each kind once")
    changing = tuple(part for part in parts if part != PLAIN)
    return Composed(changing) if len(changing) > 1 else changing[0] if changing else PLAIN


def _parse_part(name: str, registry: Registry[RecipeFactory]) -> Recipe:
    family = registry.family(name)
    if family is None:
        raise UnknownNameError("recipe", name, registry.names())
    return registry.get(family)(name[len(family) + 1 :] or None)
