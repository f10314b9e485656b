"""Indices of parameters that can only be cut together: a union-find over every row and column that a call has used."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

FROZEN = 0  # the label of what cannot be cut
Role = Literal["makes", "reads", "follows"]


@dataclass(frozen=True, eq=False)
class Axis:
    """One dimension of a parameter or buffer; its indices are the labels from ``start`` on.

    ``roles``: whether the units are computed by it, read by it, or it has a number for each of them.
    """

    tensor: Tensor
    dim: int
    start: int
    roles: set[Role] = field(default_factory=set)

    @property
    def size(self) -> int:
        return self.tensor.shape[self.dim]

    @property
    def labels(self) -> Tensor:
        return torch.arange(self.start, self.start + self.size)


class Atoms:
    """Labels (positive integers, one for each index of each axis), and which of them belong together."""

    def __init__(self) -> None:
        self._parents = torch.zeros(1024, dtype=torch.int64)
        self._count = 1
        self._starts: list[int] = []
        self._axes: dict[tuple[int, int], Axis] = {}
        self._heads: list[Tensor] = []

    def axis(self, tensor: Tensor, dim: int) -> Axis:
        """The axis of that dimension; the same one each time, while the tensor lives."""
        found = self._axes.get((id(tensor), dim))
        if found is None:
            found = self._axes[id(tensor), dim] = Axis(tensor, dim, self._count)
            self._starts.append(found.start)
            self._count += found.size
            if self._count > len(self._parents):
                self._parents = torch.cat([self._parents, torch.zeros(self._count, dtype=torch.int64)])
            self._parents[found.start : self._count] = found.labels
        return found

    @property
    def axes(self) -> tuple[Axis, ...]:
        return tuple(self._axes.values())

    def axes_of(self, labels: Tensor) -> list[Axis]:
        """The axes that some labels, as they were given out, are of."""
        given = labels[labels != FROZEN]
        if not len(given):
            return []
        first, last = (bisect_right(self._starts, int(label)) - 1 for label in given.aminmax())
        numbers = torch.arange(first, last + 1)
        if last > first:
            numbers = (torch.searchsorted(torch.tensor(self._starts), given, right=True) - 1).unique()
        axes = self.axes
        return [axes[number] for number in numbers.tolist()]

    def roots(self, labels: Tensor) -> Tensor:
        """One label for all that belong together; FROZEN for what cannot be cut. Same shape."""
        while True:
            parents = self._parents[labels]
            if torch.equal(parents, labels):
                return labels
            labels = parents

    def unite(self, one: Tensor, other: Tensor) -> None:
        """Elements at the same place, after broadcasting, belong together."""
        one, other = torch.broadcast_tensors(self.roots(one), self.roots(other))
        count, parents = self._count, self._parents.numpy()
        for pair in (one.reshape(-1) * count + other.reshape(-1)).unique().tolist():
            a, b = _root(parents, pair // count), _root(parents, pair % count)
            if a != b:
                parents[max(a, b)] = min(a, b)  # so that FROZEN, the lowest, is the root of all it meets

    def freeze(self, labels: Tensor) -> None:
        self.unite(labels, torch.tensor(FROZEN))

    def mark_heads(self, labels: Tensor) -> None:
        """These are attention heads."""
        self._heads.append(labels.unique())

    @property
    def heads(self) -> set[int]:
        """Roots of all that is an attention head."""
        return set(self.roots(torch.cat(self._heads)).tolist()) if self._heads else set()


def _root(parents: Any, label: int) -> int:
    while parents[label] != label:
        parents[label] = parents[parents[label]]
        label = int(parents[label])
    return label
