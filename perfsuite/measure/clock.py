"""Time as something that is handed in, so that everything above it can be tested without waiting."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    def now_ns(self) -> int:
        """Monotonic nanoseconds."""


class RealClock:
    """The system's. Tests that stop or move time do not reach it.

    They replace attributes of the module ``time`` and of the modules that took functions from it (freezegun looks
    through all), never those of a class; and the plugin imports this before any conftest.
    """

    now_ns = staticmethod(time.perf_counter_ns)
    sleep = staticmethod(time.sleep)


@dataclass(frozen=True)
class Deadline:
    """A moment of the real clock that something has to be done by."""

    at_ns: int

    @staticmethod
    def after(seconds: float) -> Deadline:
        return Deadline(RealClock.now_ns() + round(1e9 * seconds))

    @property
    def left_s(self) -> float:
        return max(0.0, (self.at_ns - RealClock.now_ns()) / 1e9)

    @property
    def is_over(self) -> bool:
        return RealClock.now_ns() >= self.at_ns


@dataclass
class SimulatedClock:
    """A clock that moves only when told to: ``advance_ns`` is what a simulated workload calls."""

    time_ns: int = 0

    def now_ns(self) -> int:
        return self.time_ns

    def advance_ns(self, duration_ns: float) -> None:
        self.time_ns += round(duration_ns)
