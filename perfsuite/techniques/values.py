"""Techniques by name. Importing this imports no torch.

A name is ``family`` or ``family-argument``, and a pipeline joins names with "+", in the order they
are applied: ``structured-50+int8-dynamic``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING

import msgspec

from perfsuite.errors import PerfsuiteError, StorageError, UnknownNameError, UsageError
from perfsuite.protocols import Inputs, Technique
from perfsuite.registry import TECHNIQUES, Registry, TechniqueFactory
from perfsuite.techniques.claims import Claims, claims_of, combined
from perfsuite.techniques.naming import Grammar, Named
from perfsuite.techniques.recorded import Recorded, Step, provenance, with_steps_of, write_provenance

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Original(Named):
    """``fp32``: the model as it is, copied."""

    grammar = Grammar("fp32")

    def apply(self, model: nn.Module, *, data: Iterable[Inputs] | None = None) -> nn.Module:
        from perfsuite.techniques.common import copy_finite

        return copy_finite(model)

    def skeleton(self, model: nn.Module) -> nn.Module:
        return model


@dataclass(frozen=True)
class Pipeline:
    """Techniques applied one after the other: ``structured-50+int8-dynamic``."""

    steps: tuple[Technique, ...]

    def __post_init__(self) -> None:
        if not self.steps:
            raise UsageError("a pipeline needs at least one technique", "write it as in 'magnitude-50+int8-dynamic'")

    @property
    def name(self) -> str:
        return "+".join(step.name for step in self.steps)

    @property
    def claims(self) -> Claims:
        return combined([(step.name, claims_of(step)) for step in self.steps])

    def apply(self, model: nn.Module, *, data: Iterable[Inputs] | None = None) -> nn.Module:
        kept = tuple(data) if isinstance(data, Iterator) else data  # each step may read it from the start
        return reduce(lambda current, step: applied(step, current, kept), self.steps, model)

    def skeleton(self, model: nn.Module) -> nn.Module:
        return reduce(lambda current, step: step.skeleton(current), self.steps, model)


@dataclass(frozen=True)
class Registered:
    """A technique under the name that it was asked for by, which is another than it has itself.

    Models record what was done to them: the technique itself, with its config, if it keeps a record; else this name.
    """

    name: str
    technique: Technique

    def apply(self, model: nn.Module, *, data: Iterable[Inputs] | None = None) -> nn.Module:
        before = provenance(model)
        result = self.technique.apply(model, data=data)
        if not self.is_recorded and len(provenance(result)) <= len(before):
            write_provenance(result, with_steps_of(model, result, self, before))
        return result

    def skeleton(self, model: nn.Module) -> nn.Module:
        return self.technique.skeleton(model)

    @property
    def claims(self) -> Claims:
        """Those of the technique, but no series: this name says a fraction in a way of its own, if at all."""
        return replace(claims_of(self.technique), series=None)

    @property
    def is_recorded(self) -> bool:
        return isinstance(self.technique, Recorded | Pipeline | Original)


def leaves(technique: Technique) -> tuple[Technique, ...]:
    """The techniques that a model would record, in the order in which they are applied."""
    if isinstance(technique, Pipeline):
        return tuple(leaf for step in technique.steps for leaf in leaves(step))
    if isinstance(technique, Registered) and technique.is_recorded:
        return leaves(technique.technique)
    return (technique,)


def applied(technique: Technique, model: nn.Module, data: Iterable[Inputs] | None = None) -> nn.Module:
    """Apply a technique and see to it that the result records it, also if it is one from outside."""
    before = provenance(model)
    result = technique.apply(model, data=data)
    if not isinstance(technique, Pipeline | Original | Registered):
        write_provenance(result, with_steps_of(model, result, technique, before))
    return result


def rebuild(model: nn.Module, steps: Iterable[Step], known: Mapping[str, Technique] | None = None) -> nn.Module:
    """Give a fresh model, in place, the structure that recorded steps gave.

    ``known``: techniques that are in no registry, by name. Raises StorageError for a record that no
    technique can be made of.
    """
    for step in steps:
        technique = (known or {}).get(step.technique) or _technique_of(step)
        if isinstance(technique, Recorded):
            model = technique.skeleton(model, step.structure)
        elif step.structure:
            raise StorageError(f"technique {step.technique!r} takes no structure", "save the model again")
        else:
            model = technique.skeleton(model)
    write_provenance(model, tuple(steps))
    return model


def claims_of_steps(steps: Iterable[Step]) -> Claims:
    """What recorded steps claim together, as far as it was done. Of one that is not known here, nothing is."""
    found = []
    for step in steps:
        try:
            found.append((step.technique, claims_of(_technique_of(step)).after(step.coverage)))
        except PerfsuiteError:
            found.append((step.technique, Claims()))
    return combined(found)


def _technique_of(step: Step) -> Technique:
    named = parse_technique(step.technique)
    if not isinstance(named, Recorded):
        return named
    try:
        return msgspec.convert(step.config, type=type(named)) if step.config else named
    except msgspec.ValidationError as error:
        raise StorageError(
            f"the record of {step.technique!r} does not fit that technique: {error}", "save the model again"
        ) from error


def parse_technique(name: str, registry: Registry[TechniqueFactory] = TECHNIQUES) -> Technique:
    """A technique from its name. Raises UnknownNameError with the nearest names, UsageError for a bad argument.

    The name under which a technique was registered is its identity, also where the value calls itself otherwise.
    """
    steps = tuple(_parse_step(step.strip(), registry) for step in name.split("+"))
    return steps[0] if len(steps) == 1 else Pipeline(steps)


def _parse_step(name: str, registry: Registry[TechniqueFactory]) -> Technique:
    family = registry.family(name)
    if family is None:
        raise UnknownNameError("technique", name, registry.names())
    argument = name[len(family) + 1 :] or None
    technique = registry.get(family)(argument)
    if registry.is_builtin(family):
        return technique  # of which it is known that it calls itself so
    lacking = [member for member in ("name", "apply", "skeleton") if not hasattr(technique, member)]
    if lacking:
        raise UsageError(
            f"technique {name!r} is a {type(technique).__name__} without {' and '.join(lacking)}",
            f"make what is registered as {family!r} fit perfsuite.protocols.Technique, or update its package",
        )
    drops_argument = technique.name == family and argument is not None
    is_own_name = registry.family(technique.name) == family and not drops_argument
    return technique if is_own_name else Registered(name, technique)
