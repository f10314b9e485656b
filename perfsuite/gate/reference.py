"""What evidence is judged against: the stored entry, and how to say where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from perfsuite.baseline.machine import Machine
from perfsuite.baseline.schema import Entry


@dataclass(frozen=True)
class Reference:
    """``update`` is the command that records a baseline for the case; ``machines`` are those of its file."""

    entry: Entry | None
    here: Machine
    machines: Mapping[str, Machine] = field(default_factory=dict)
    update: str = "pytest --perf-update"
