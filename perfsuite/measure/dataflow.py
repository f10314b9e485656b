"""Whether torch's operators compute a call's result from its inputs, or somebody else does.

Followed through memory: what an operator gives depends on the inputs if anything that it was given does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from perfsuite._compat.torch import StorageWeakRef, tree_leaves, writes_to_arguments

# They hand tensors on, or make room for what somebody else may fill.
_MAKE_ROOM = ("empty", "new_empty", "zeros", "new_zeros", "ones", "new_ones", "full", "new_full")
_HAND_ON = ("lift", "clone", "copy_", "_to_copy", "set_", "_local_scalar_dense", "resize_")


class Dataflow:
    """Told of each operator in turn. ``given`` are the call's inputs, ``held`` the weights."""

    def __init__(self, given: Iterable[Tensor], held: Iterable[Tensor]) -> None:
        self.computing = 0  # operators that are more than views and copies
        self.strangers: list[Tensor] = []  # what operators were given that no operator had made
        self._given = list(given)
        self._known: dict[int, StorageWeakRef] = {}  # a weak reference keeps an address from being used again
        self._from_inputs: set[int] = set()
        self._is_blind = False  # something has no memory to follow, such as a sparse tensor
        self._from_inputs.update(self._keys(self._given))
        self._keys(held)

    def note(self, func: Any, given: Sequence[object], made: Sequence[object]) -> None:
        name = func.overloadpacket.__name__
        makes_room = name.startswith(_MAKE_ROOM)
        self.computing += not (func.is_view or makes_room or name.startswith(_HAND_ON))
        self.strangers += [leaf for leaf in given if isinstance(leaf, Tensor) and not self._is_known(leaf)]
        before, after = self._keys(given), self._keys(made)
        if makes_room or not self._from_inputs.isdisjoint(before):
            self._from_inputs.update(after, before if writes_to_arguments(func) else ())

    def reaches(self, output: object) -> bool:
        """Whether anything of the output comes from the inputs; true where that cannot be told."""
        made = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
        keys = self._keys(made)
        return self._is_blind or not self._given or not made or not self._from_inputs.isdisjoint(keys)

    def _is_known(self, leaf: Tensor) -> bool:
        reference = self._reference(leaf)
        return reference is None or reference.cdata in self._known

    def _keys(self, leaves: Iterable[object]) -> list[int]:
        found = (self._reference(leaf) for leaf in leaves if isinstance(leaf, Tensor))
        references = [reference for reference in found if reference is not None]
        self._known.update((reference.cdata, reference) for reference in references)
        return [reference.cdata for reference in references]

    def _reference(self, leaf: Tensor) -> StorageWeakRef | None:
        try:
            if leaf.layout is torch.strided:
                return StorageWeakRef(leaf.untyped_storage())
        except (NotImplementedError, RuntimeError):  # some subclasses are made of other tensors
            pass
        self._is_blind = True
        return None
