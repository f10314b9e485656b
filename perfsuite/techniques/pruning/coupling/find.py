"""What may be cut in a model beside what architectures describe."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass

from torch import nn

from perfsuite._compat.torch import own_parameters
from perfsuite.models.seeding import seeded
from perfsuite.protocols import Inputs
from perfsuite.techniques.common import sharing_parameters
from perfsuite.techniques.pruning.coupling import layers, mixing, moves
from perfsuite.techniques.pruning.coupling.examples import example_for
from perfsuite.techniques.pruning.coupling.proof import Prover
from perfsuite.techniques.pruning.coupling.trace import Rule, Trace
from perfsuite.techniques.pruning.coupling.units import Units, units_of
from perfsuite.techniques.visiting import unwritten

RULES: dict[str, Rule] = {**mixing.RULES, **moves.RULES, **layers.RULES}


@dataclass(frozen=True)
class Followed:
    """What was found: groups that are proven, the names of those that are not, and what proves a plan."""

    groups: tuple[Units, ...]
    refused: tuple[str, ...]
    prover: Prover
    called: frozenset[str]  # paths of the modules that ran


def follow(model: nn.Module, given: Inputs | None, described: Collection[str]) -> Followed | None:
    """Find groups and prove them. None where no input is known that the model can be called with.

    ``described``: modules that an architecture describes, with all that is below them.
    """
    with seeded(0):
        return _followed(model, given, described)


def _followed(model: nn.Module, given: Inputs | None, described: Collection[str]) -> Followed | None:
    copied = sharing_parameters(model)
    trace = Trace(copied, RULES, layers.frozen_all)
    with unwritten(model):
        inputs = example_for(model, given)
        if inputs is None or not _is_traced(trace, copied, inputs):
            return None
    found = [group for group in units_of(copied, trace) if not any(_below(m, described) for m in group.modules)]
    prover = Prover(model, inputs)
    proven = prover.prove(found)
    return Followed(proven.groups, proven.refused, prover, frozenset(trace.called))


def _is_traced(trace: Trace, model: nn.Module, inputs: Inputs) -> bool:
    try:
        trace.run(model.eval(), inputs)
    except Exception:  # what is followed is the model's own code
        return False
    with suppress(Exception):  # some models train on other inputs than they answer
        trace.run(model.train(), inputs)  # another branch may look at the units
    return True


def is_described(model: nn.Module, described: Collection[str]) -> bool:
    """Whether architectures describe all layers that have a weight matrix."""
    return all(_below(name, described) for name, module in model.named_modules() if _has_matrix(module))


def is_chained(model: nn.Module, chains: Sequence[Sequence[nn.Module]]) -> bool:
    """Whether each layer but one, the last, is the first of a chain: then there is nothing else to be found."""
    rest = {module for module in model.modules() if _has_matrix(module)} - {layers[0] for layers in chains}
    return bool(chains) and len(rest) == 1


def _has_matrix(module: nn.Module) -> bool:
    return any(p is not None and p.dim() > 1 for p in own_parameters(module).values())


def _below(name: str, parents: Collection[str]) -> bool:
    return any(name == parent or not parent or name.startswith(f"{parent}.") for parent in parents)
