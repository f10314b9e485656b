"""Which unit each element of a tensor belongs to.

Labels are integers in a tensor with as many dimensions as the one they are of, and of size 1 along each dimension
that units do not vary along: (1, C, 1, 1) for the channels of an image. FROZEN elements are of no unit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from perfsuite.techniques.pruning.coupling.atoms import FROZEN, Atoms, Role


@dataclass(frozen=True)
class Weight:
    """A parameter, a view of one, or what is like one: each of its dimensions has labels that vary along it alone.

    Each can be cut for itself. A tensor of equal numbers, as zeros(batch, self.hidden), is like one.
    """

    factors: tuple[Tensor, ...]


@dataclass(frozen=True)
class Operand:
    """One of the tensors that are combined element by element."""

    labels: Tensor
    shape: tuple[int, ...]


def frozen(dims: int) -> Tensor:
    """Labels of a tensor that has no units."""
    return torch.full((1,) * dims, FROZEN)


def varying(labels: Tensor) -> list[int]:
    """The dimensions that reduced labels vary along."""
    return [d for d in range(labels.dim()) if labels.shape[d] > 1]


class Algebra:
    """What operators do to labels. What cannot be cut along a dimension is united along it."""

    def __init__(self) -> None:
        self.atoms = Atoms()

    def reduced(self, labels: Tensor) -> Tensor:
        labels = self.atoms.roots(labels)
        for d in varying(labels):
            first = labels.narrow(d, 0, 1)
            if bool((labels == first).all()):
                labels = first
        return labels

    def weight(self, parameter: Tensor) -> Weight:
        dims = [d for d in range(parameter.dim()) if parameter.shape[d] > 1]
        return Weight(tuple(self._factor(parameter, d) for d in dims))

    def _factor(self, parameter: Tensor, dim: int) -> Tensor:
        shape = [-1 if d == dim else 1 for d in range(parameter.dim())]
        return self.atoms.axis(parameter, dim).labels.reshape(shape)

    def play(self, labels: Tensor, role: Role) -> None:
        """Say what axes do for the units; an axis that both makes and reads the same units is left alone."""
        for axis in self.atoms.axes_of(labels):
            axis.roles.add(role)
            if {"makes", "reads"} <= axis.roles:
                self.atoms.freeze(axis.labels)

    def couple_along(self, labels: Tensor, dims: Iterable[int]) -> Tensor:
        """Unite what lies along these dimensions; units that would all become one are frozen."""
        before = varying(labels)
        for d in dims:
            if labels.shape[d] > 1:
                self.atoms.unite(labels, labels.narrow(d, 0, 1))
        labels = self.reduced(labels)
        if before and not varying(labels):
            self.atoms.freeze(labels)
        return self.reduced(labels)

    def combine(self, operands: Sequence[Operand]) -> Tensor:
        """Labels of what is computed element by element from several tensors, which are broadcast."""
        dims = max(len(operand.shape) for operand in operands)
        aligned = [_aligned(operand, dims) for operand in operands]
        found = frozen(dims)
        for operand in aligned:
            full = {d for other in aligned for d in range(dims) if other.shape[d] > 1 and other.labels.shape[d] == 1}
            labels = self.couple_along(operand.labels, [d for d in varying(operand.labels) if d in full])
            found = self._merged(found, labels)
        return found

    def _merged(self, one: Tensor, other: Tensor) -> Tensor:
        one, other = self.reduced(one), self.reduced(other)
        if not bool(one.any()) or not bool(other.any()):
            return other if bool(other.any()) else one
        self.atoms.unite(one, other)  # what is of a unit here and of none there is frozen
        return self.reduced(torch.broadcast_tensors(one, other)[0])

    def chosen(self, weight: Weight, dims: int, units: Collection[int]) -> Tensor:
        """The labels of a parameter along the first of these dimensions that it varies in; its others are frozen."""
        along = [factor for factor in weight.factors if len(varying(factor)) == 1 and varying(factor)[0] in units]
        found = min(along, key=varying, default=None)
        for factor in weight.factors:
            if factor is not found:
                self.atoms.freeze(factor)
        if found is None:
            return frozen(dims)
        self.play(found, "follows")
        return self.reduced(found)

    def outer(self, operands: Sequence[tuple[Weight | None, tuple[int, ...]]]) -> Weight:
        """What is computed element by element from parameters, and from tensors (None) that cannot be cut."""
        dims = max(len(shape) for _, shape in operands)
        factors = []
        for d in range(dims):
            parts = [self._along(weight, shape, d - dims + len(shape), dims) for weight, shape in operands]
            found = [part for part in parts if part is not None]
            for part in found[1:]:
                self.atoms.unite(found[0], part)
            if found:
                factors.append(self.reduced(found[0]))
        return Weight(tuple(factor for factor in factors if varying(factor)))

    def _along(self, weight: Weight | None, shape: tuple[int, ...], dim: int, dims: int) -> Tensor | None:
        """The labels that one of several tensors has along a dimension; None where it is broadcast."""
        if dim < 0 or shape[dim] == 1:
            return None
        own = [f for f in (weight.factors if weight is not None else ()) if varying(f) == [dim]]
        return own[0].reshape((1,) * (dims - len(shape)) + tuple(own[0].shape)) if own else frozen(dims)

    def vector(self, labels: Tensor, dim: int) -> Tensor:
        """Labels (n,) of the features along one dimension, if all that lies along the others belongs together."""
        dim %= labels.dim()
        return self.couple_along(labels, [d for d in range(labels.dim()) if d != dim]).reshape(-1)


def _aligned(operand: Operand, dims: int) -> Operand:
    ones = (1,) * (dims - len(operand.shape))
    return Operand(operand.labels.reshape(ones + tuple(operand.labels.shape)), ones + tuple(operand.shape))
