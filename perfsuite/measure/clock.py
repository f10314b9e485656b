"""Time as something that is handed in, so that everything above it can be tested without waiting."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    def now_ns(self) -> int:
        """Monotonic nanoseconds."""


class RealClock:
    def now_ns(self) -> int:
        return time.perf_counter_ns()


@dataclass
class SimulatedClock:
    """A clock that moves only when told to: ``advance_ns`` is what a simulated workload calls."""

    time_ns: int = 0

    def now_ns(self) -> int:
        return self.time_ns

    def advance_ns(self, duration_ns: float) -> None:
        self.time_ns += round(duration_ns)
