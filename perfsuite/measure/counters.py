"""What calls use beside time: counters that are opened in the process of the calls, and read around each timing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from perfsuite.errors import UnavailableError
from perfsuite.metric import Counter, Reader, Sampled
from perfsuite.spec import Limit

FELL = -1.0  # instead of an amount


@dataclass(frozen=True)
class Readers:
    """Opened counters by quantity; of those that could not be opened, why."""

    opened: Mapping[str, Reader] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def parts_of_time(self) -> tuple[str, ...]:
        """Quantities that are seconds of a call: what has no such part is compared with by the whole."""
        return tuple(name for name, reader in self.opened.items() if getattr(reader, "is_part_of_time", False))

    @staticmethod
    def of(counters: Mapping[str, Counter]) -> Readers:
        opened: dict[str, Reader] = {}
        missing: dict[str, str] = {}
        for quantity, counter in counters.items():
            try:
                opened[quantity] = counter()
            except UnavailableError as error:
                missing[quantity] = error.what
        return Readers(opened, missing)


class Counting:
    """Adds up what counters grow by while it is entered: around each timing of a chunk, so that coarse ones move."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers.opened
        self._before: list[float] = []
        self._amounts = dict.fromkeys(self._readers, 0.0)

    def __enter__(self) -> None:
        self._before = [reader.read() for reader in self._readers.values()]

    def __exit__(self, *error: object) -> None:
        for (quantity, reader), before in zip(self._readers.items(), self._before, strict=True):
            grown, so_far = reader.read() - before, self._amounts[quantity]
            self._amounts[quantity] = so_far + grown if 0 <= grown < math.inf and so_far != FELL else FELL

    def per_call(self, calls: int) -> dict[str, float]:
        return {name: amount if amount == FELL else amount / calls for name, amount in self._amounts.items()}


def counters_of(limits: Iterable[Limit]) -> dict[str, Counter]:
    """The counters that these limits need, by quantity; time is read anyway."""
    found = [(limit.metric.quantity, limit.metric.probe) for limit in limits]
    return {quantity: probe.counter for quantity, probe in found if isinstance(probe, Sampled) and quantity}
