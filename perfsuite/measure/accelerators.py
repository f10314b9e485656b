"""Which accelerators a call has given work to: it returns before they have done it, so timing must wait for them.

Importing this imports no torch, and of a call that has imported none nothing is asked.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from perfsuite.measure.repeatable import has_setup, prepared

if TYPE_CHECKING:
    import torch


class Accelerator(Protocol):
    """One device."""

    @property
    def device(self) -> str:
        """As torch names it, such as "cuda:0"."""

    @property
    def name(self) -> str:
        """Such as "NVIDIA H100"."""

    def allocations(self) -> int:
        """A number that grows with each allocation."""

    def is_busy(self) -> bool:
        """Whether it has been given work that it has not done yet."""

    def wait(self) -> None:
        """Return when all is done."""


@dataclass(frozen=True)
class Cuda:
    """(Nothing here has been run on a GPU yet but by way of the tests with a simulated one.)"""

    index: int

    @property
    def device(self) -> str:
        return f"cuda:{self.index}"

    @property
    def name(self) -> str:
        return str(_torch().cuda.get_device_name(self.index))

    def allocations(self) -> int:
        return int(_torch().cuda.memory_stats(self.index).get("allocation.all.allocated", 0))

    def is_busy(self) -> bool:
        return not _torch().cuda.current_stream(self.index).query()

    def wait(self) -> None:
        _torch().cuda.synchronize(self.index)


@dataclass(frozen=True)
class Mps:
    """Apple's. It does not tell of its queue, so what holds memory counts as busy."""

    device: str = "mps"
    name: str = "mps"

    def allocations(self) -> int:
        return int(_torch().mps.current_allocated_memory())

    def is_busy(self) -> bool:
        return self.allocations() > 0

    def wait(self) -> None:
        _torch().mps.synchronize()


def started() -> tuple[Accelerator, ...]:
    """Those that torch has begun to use in this process; to look starts none."""
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return ()
    cuda = [Cuda(index) for index in range(torch.cuda.device_count())] if torch.cuda.is_initialized() else []
    return (*cuda, *([Mps()] if torch.backends.mps.is_available() else []))


def of_device(device: torch.device) -> tuple[Accelerator, ...]:
    """The accelerator that a device is; none for the CPU."""
    if device.type == "cuda":
        return (Cuda(_torch().cuda.current_device() if device.index is None else device.index),)
    return (Mps(),) if device.type == "mps" else ()


def used_by(call: Callable[[], object], accelerators: Sequence[Accelerator]) -> tuple[Accelerator, ...]:
    """Those that a call gives work to: it allocates there, leaves it busy, or returns what is there."""
    if not accelerators:
        return ()
    for accelerator in accelerators:
        accelerator.wait()
    before = [accelerator.allocations() for accelerator in accelerators]
    result = call()
    busy = [accelerator.is_busy() for accelerator in accelerators]
    there = _devices_of(result)
    return tuple(
        accelerator
        for accelerator, was, is_busy in zip(accelerators, before, busy, strict=True)
        if is_busy or accelerator.allocations() != was or accelerator.device in there
    )


@dataclass(frozen=True)
class Awaited:
    """A call that is over when the device has done its work; what is made before it is done before it begins."""

    call: Callable[[], object]
    wait: Callable[[], None]

    @property
    def has_setup(self) -> bool:
        return has_setup(self.call)

    def __call__(self) -> None:
        with self.prepared() as call:
            call()

    @contextmanager
    def prepared(self, calls: int = 1) -> Iterator[Callable[[], None]]:
        with prepared(self.call, calls) as ready:
            self.wait()
            yield partial(_call_and_wait, ready, self.wait)


def _call_and_wait(call: Callable[[], object], wait: Callable[[], None]) -> None:
    call()
    wait()


def wait_for(accelerators: Iterable[Accelerator]) -> None:
    for accelerator in accelerators:
        accelerator.wait()


def name_of(accelerators: Iterable[Accelerator]) -> str:
    """For a machine class: "NVIDIA H100", "2x NVIDIA H100"; empty for none."""
    counted = Counter(accelerator.name for accelerator in accelerators)
    return " + ".join(f"{number}x {name}" if number > 1 else name for name, number in sorted(counted.items()))


def _devices_of(result: object) -> set[str]:
    from perfsuite._compat.torch import tree_leaves

    return {str(leaf.device) for leaf in tree_leaves(result) if hasattr(leaf, "device")}


def _torch() -> Any:
    return sys.modules["torch"]
