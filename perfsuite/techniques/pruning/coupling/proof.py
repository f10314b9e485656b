"""Whether a cut model computes what it computes with the removed units masked where they are read.

In float64 and with random weights, so that equality is that of the program and not of zeros in its weights; on inputs
of several sizes. All groups are proven by one pair of calls; where that fails, parts of them are, and what is left.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from zlib import crc32

import torch
from torch import Tensor, nn

from perfsuite.models.seeding import seeded
from perfsuite.protocols import Inputs
from perfsuite.techniques.common import sharing_parameters, tensors_in
from perfsuite.techniques.pruning.coupling.examples import in_dtype, runs, variants
from perfsuite.techniques.pruning.coupling.numbers import settled
from perfsuite.techniques.pruning.coupling.units import Units, cut, put, without
from perfsuite.techniques.ties import copied

_MOST_CALLS = 400
_MOST_GROUPS = 4000
Plan = Sequence[tuple[Units, Tensor]]


@dataclass(frozen=True)
class Proven:
    """Groups that are cut rightly, and the names of those that are not."""

    groups: tuple[Units, ...]
    refused: tuple[str, ...]


class Prover:
    """A copy of a model in float64 with weights of its own, and inputs that it takes."""

    def __init__(self, model: nn.Module, inputs: Inputs) -> None:
        self._calls = 0
        self._model, self._tolerance, self._inputs = self._exact(model, inputs)

    def prove(self, groups: Sequence[Units]) -> Proven:
        """Sort out what can be cut, and settle which attributes follow."""
        first = [next(iter(settled(self._model, group))) for group in groups]
        if not groups or self.holds([_halved(group) for group in first]):
            return Proven(tuple(first), ())
        families: dict[str, list[Units]] = {}
        for group in groups:
            families.setdefault(f"{group.kind} {re.sub(r'[0-9]+', '*', group.name)}", []).append(group)
        found: list[Units] = []
        for family in families.values():
            found += self._some_of(family)
        found = [group for group, _ in self.largest([_halved(group) for group in found])]
        names = {group.name for group in found}
        order = {group.name: number for number, group in enumerate(groups)}
        refused = tuple(group.name for group in groups if group.name not in names)
        return Proven(tuple(sorted(found, key=lambda group: order[group.name])), refused)

    def holds(self, plan: Plan) -> bool:
        """Whether the model without all but the kept units equals the masked one."""
        if self._calls >= _MOST_CALLS or not self._inputs:
            return False
        masked, small = (sharing_parameters(self._model, buffers=True) for _ in range(2))
        mask(masked, plan)
        try:
            cut(small, plan)
            return all(self._equal(masked, small, inputs) for inputs in self._inputs)
        except Exception:  # a cut model may fail in any way: its own code runs on shapes that it was not written for
            return False

    def largest(self, plan: Plan) -> Plan:
        """As much of a plan as holds, each group with those before it: not all numbers of units go together."""
        if self.holds(plan):
            return plan
        found: list[tuple[Units, Tensor]] = []
        for each in plan:
            if self.holds([*found, each]):
                found.append(each)
        return found

    def _some_of(self, family: list[Units]) -> list[Units]:
        """Those of alike groups that hold, all with the attributes that make them hold."""
        for choice in zip_longest(*(settled(self._model, group) for group in family)):
            if all(choice) and self.holds([_halved(group) for group in choice]):
                return list(choice)
        if len(family) == 1:
            return []
        middle = len(family) // 2
        return [*self._some_of(family[:middle]), *self._some_of(family[middle:])]

    def _equal(self, masked: nn.Module, small: nn.Module, inputs: Inputs) -> bool:
        self._calls += 2
        with seeded(0):
            wanted = _outputs(masked, inputs)
        with seeded(0):
            found = _outputs(small, inputs)
        return len(wanted) == len(found) and all(map(self._close, wanted, found))

    def _close(self, one: Tensor, other: Tensor) -> bool:
        if one.shape != other.shape:
            return False
        finite = one.isfinite()
        if not torch.equal(finite, other.isfinite()) or not bool(finite.any()):
            return not one.numel()
        scale = float(one[finite].abs().max()) or 1.0
        return float((one[finite] - other[finite]).abs().max()) <= self._tolerance * scale

    def _exact(self, model: nn.Module, inputs: Inputs) -> tuple[nn.Module, float, list[Inputs]]:
        """In float64; in float32 a model that only computes in that, or that would take minutes."""
        precisions = ((torch.float64, 1e-9), (torch.float32, 1e-3))
        for dtype, tolerance in precisions[1:] if _is_slow_in_float64(model) else precisions:
            exact = copied(model).to(dtype).eval()
            _randomise(exact)
            others = (in_dtype(dtype, variant) for variant in variants(inputs))
            if runs(exact, in_dtype(dtype, inputs)) and _is_finite(exact, in_dtype(dtype, inputs)):
                other = next((each for each in others if runs(exact, each)), None)
                return exact, tolerance, [in_dtype(dtype, inputs), *([] if other is None else [other])]
        return exact, 0.0, []


def _is_slow_in_float64(model: nn.Module) -> bool:
    """Whether there are many groups in convolutions, which torch computes one by one in float64 on CPUs."""
    convolutions = (module for module in model.modules() if isinstance(module, nn.modules.conv._ConvNd))
    return sum(module.groups for module in convolutions if module.groups > 1) > _MOST_GROUPS


def mask(model: nn.Module, plan: Plan) -> None:
    """Set weights in which what reads the units that are not kept is zero."""
    for group, kept in plan:
        for part in group.parts:
            if "reads" in part.roles:
                positions = part.positions[without(group.count, kept)].flatten()
                weight = part.places[0].of(model).detach()
                put(model, part.places, weight.index_fill(part.dim, positions.to(weight.device), 0))


def _halved(group: Units) -> tuple[Units, Tensor]:
    """About half of the units, by chance, and others than of another group that has as many."""
    order = torch.randperm(group.count, generator=torch.Generator().manual_seed(crc32(group.name.encode())))
    return group, order[: (group.count + 1) // 2].sort().values


def _outputs(model: nn.Module, inputs: Inputs) -> list[Tensor]:
    with torch.no_grad():
        output = model(*inputs.args, **inputs.kwargs)
    return [tensor for tensor in tensors_in(output) if tensor.is_floating_point()]


def _is_finite(model: nn.Module, inputs: Inputs) -> bool:
    with seeded(0):
        return any(bool(tensor.isfinite().any()) for tensor in _outputs(model, inputs))


def _randomise(model: nn.Module) -> None:
    with seeded(1), torch.no_grad():
        for p in model.parameters():
            if p.dim() > 1:
                p.copy_(_normal(p) * (p.numel() / p.shape[0]) ** -0.5)
            else:
                p.add_(torch.randn_like(p), alpha=0.3)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.3)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)


def _normal(like: Tensor) -> Tensor:
    """Normal numbers, which in large tensors come again after a prime number of them: drawing takes long."""
    drawn = torch.randn(min(like.numel(), 1_000_003), dtype=like.dtype)
    return drawn.repeat(-(-like.numel() // len(drawn)))[: like.numel()].reshape(like.shape).to(like.device)


def names_of(groups: Iterable[Units]) -> str:
    """For messages."""
    return ", ".join(repr(group.name) for group in groups)
