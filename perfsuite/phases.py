"""The phases of a training step: what is done now, and how long each has taken so far. Imports no torch."""

from __future__ import annotations

import sys
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

FORWARD, BACKWARD, OPTIMIZER = "forward", "backward", "optimizer"
PHASES = (FORWARD, BACKWARD, OPTIMIZER)


class Listener(Protocol):
    def told(self, name: str) -> None:
        """Of a phase that begins, or by "" that one ends."""


_listeners: weakref.WeakSet[Listener] = weakref.WeakSet()  # a counter that nobody reads any more hears nothing


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Tell who listens that the body is that phase of a step; a phase has no phases inside it."""
    if not _listeners:
        yield
        return
    _tell(name)
    try:
        yield
    finally:
        _tell("")


@contextmanager
def heard(listener: Listener) -> Iterator[None]:
    """While open, the listener is told of phases."""
    _listeners.add(listener)
    try:
        yield
    finally:
        _listeners.discard(listener)


class PhaseClock:
    """Seconds spent in one phase since it was opened: what a counter of blocks reads."""

    is_part_of_time = True  # a reference workload, which has no phases, is compared with by all of its time

    def __init__(self, name: str, now: Callable[[], float] = time.perf_counter) -> None:
        self._name = name
        self._now = now
        self._spent = 0.0
        self._began: float | None = None
        _listeners.add(self)

    def read(self) -> float:
        return self._spent

    def told(self, name: str) -> None:
        _wait_for_devices()
        if self._began is not None:
            self._spent += self._now() - self._began
        self._began = self._now() if name == self._name else None


def _tell(name: str) -> None:
    for listener in list(_listeners):
        listener.told(name)


def _wait_for_devices() -> None:
    """A device that computes in its own time would be charged to the phase that waits for it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()
