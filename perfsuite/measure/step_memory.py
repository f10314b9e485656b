"""The memory of a training step, by what it is for, and its FLOPs by phase: seen at dispatch, so exact on any machine.

Memory inside an operator's own kernel, and what an allocator keeps, is not seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from perfsuite._compat.torch import StorageWeakRef, TorchDispatchMode, tree_leaves
from perfsuite._compat.torch_distributed import are_shards, local
from perfsuite.measure.trace import flops_of, observed, operator_name
from perfsuite.phases import FORWARD, heard
from perfsuite.training.run import Training

KINDS = ("parameter", "gradient", "optimizer", "activation", "temporary")
_BETWEEN_PROCESSES = ("c10d::", "_c10d_functional::")
_NO_DATA = ("barrier", "wait_tensor", "_wrap_tensor_autograd")


@dataclass(frozen=True)
class StepMemory:
    """``at_peak``: bytes by kind at the moment at which most are alive. ``saved_bytes``: what the largest forward pass
    leaves for its backward pass. ``collectives``: operators between processes, also of DDP and FSDP; ``sent``: the
    bytes that each kind of them is given.

    Buffers count as parameters, the batch as an activation; an activation that is computed again is temporary.
    """

    at_peak: Mapping[str, int]
    saved_bytes: int
    flops: int
    forward_flops: int
    collectives: Mapping[str, int]
    sent: Mapping[str, int]

    @property
    def collective_bytes(self) -> int:
        return sum(self.sent.values())

    @property
    def peak_bytes(self) -> int:
        return sum(self.at_peak.values())


def observe(training: Training) -> StepMemory:
    """Of one step, from the state as it is now."""
    with observed():
        recorder = _Recorder(training)
        with heard(recorder), recorder:
            training.once()
        return recorder.result()


@dataclass
class _Memory:
    """One storage. ``is_kept``: the forward pass that made it has left it alive."""

    reference: StorageWeakRef
    size: int
    phase: str
    is_kept: bool = False


class _Recorder(TorchDispatchMode):
    """Sees each operator, and hears of phases."""

    def __init__(self, training: Training) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self._training = training
        self._phase = ""
        self._live: dict[int, _Memory] = {}
        self._total = 0
        self._peak: tuple[int, list[tuple[int, _Memory]]] = (0, [])
        self._saved = 0
        self._flops: Counter[str] = Counter()
        self._collectives: Counter[str] = Counter()
        self._sent: Counter[str] = Counter()
        batch = training.batch
        self._inputs = _tensors((batch.args, dict(batch.kwargs), batch.labels))
        self._see((*training.held, *self._inputs))

    def told(self, name: str) -> None:
        """A forward pass that ends leaves alive what the backward pass needs."""
        if self._phase == FORWARD and name == "":
            self._forget()
            kept = [memory for memory in self._live.values() if memory.phase == FORWARD]
            for memory in kept:
                memory.is_kept = True
            self._saved = max(self._saved, sum(memory.size for memory in kept))
        self._phase = name

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if are_shards(types):
            return NotImplemented  # what they do in this process is seen, operator by operator
        kwargs = kwargs or {}
        given = _tensors((args, kwargs))
        self._see(given)
        out = func(*args, **kwargs)
        self._flops[self._phase] += flops_of(func, args, kwargs, out) or 0
        self._note_collective(operator_name(func), given)
        self._see(_tensors(out))
        self._forget()
        if self._total > self._peak[0]:
            self._peak = self._total, list(self._live.items())
        return out

    def result(self) -> StepMemory:
        known = self._known()
        at_peak = dict.fromkeys(KINDS, 0)
        for key, memory in self._peak[1]:
            made_of = "activation" if memory.is_kept else "temporary"
            at_peak[known.get(key, made_of)] += memory.size
        return StepMemory(
            at_peak, self._saved, self._flops.total(), self._flops[FORWARD], dict(sorted(self._collectives.items())),
            dict(sorted(self._sent.items())),
        )  # fmt: skip

    def _known(self) -> dict[int, str]:
        """Kinds by memory, of what is still there at the end: a parameter before all else that shares its memory."""
        model = self._training.step.model
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        found: dict[int, str] = {}
        for kind, tensors in (
            ("activation", self._inputs),
            ("gradient", gradients),
            ("optimizer", self._training.optimizer_state()),
            ("parameter", self._training.weights),
        ):
            found |= {_reference(tensor).cdata: kind for tensor in tensors}
        return found

    def _note_collective(self, name: str, given: Iterable[Tensor]) -> None:
        if name.startswith(_BETWEEN_PROCESSES) and not name.endswith(_NO_DATA):
            self._collectives[name] += 1
            self._sent[name] += sum(tensor.numel() * tensor.element_size() for tensor in given)

    def _see(self, tensors: Iterable[Tensor]) -> None:
        for tensor in tensors:
            reference = _reference(tensor)
            if reference.cdata not in self._live:
                memory = _Memory(reference, local(tensor).untyped_storage().nbytes(), self._phase)
                self._live[reference.cdata] = memory
                self._total += memory.size

    def _forget(self) -> None:
        gone = [key for key, memory in self._live.items() if memory.reference.expired()]
        for key in gone:
            self._total -= self._live.pop(key).size


def _tensors(value: Any) -> list[Tensor]:
    """Those that have memory of their own."""
    return [
        leaf
        for leaf in tree_leaves(value)
        if isinstance(leaf, Tensor) and leaf.layout is torch.strided and not leaf.is_meta
    ]


def _reference(tensor: Tensor) -> StorageWeakRef:
    return StorageWeakRef(local(tensor).untyped_storage())
