"""What evidence is judged against, chosen before anything is measured; and what judging it may cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from perfsuite.baseline.machine import Machine
from perfsuite.baseline.schema import Entry
from perfsuite.spec import Block
from perfsuite.stats.decision import Spread
from perfsuite.stats.sequential import Errors


@dataclass(frozen=True)
class BaseRevision:
    """A base that candidates are measured beside.

    ``accepted``: what has no noise is judged against the stored baseline all the same, which was accepted there.
    """

    name: str  # such as "main (abc123def456)"
    accepted: bool = False


@dataclass(frozen=True)
class Baseline:
    """What is stored of a case, the machine class that judges it, and the command that records it anew.

    ``another``: what this case was measured with, where the stored entry says otherwise (perfsuite.baseline.identity).
    ``base``: the revision that it is judged beside instead.
    """

    entry: Entry | None
    here: Machine
    machines: Mapping[str, Machine] = field(default_factory=dict)  # of the entry's times, by id
    update: str = "pytest --perf-update"
    another: tuple[str, ...] = ()
    base: BaseRevision | None = None

    @property
    def then(self) -> str:
        """What the expected numbers are called in a sentence."""
        return self.base.name if self.base else "accepted"

    @property
    def stands_alone(self) -> bool:
        """Whether the entry judges what has no noise, whatever a base revision shows."""
        return self.base is None or self.base.accepted


@dataclass(frozen=True)
class Budget:
    """How often judging may err, over how many looks, and for how long a case may be sampled.

    ``spreads``: what the suite has shown so far of differences beside a base: twins or not, and the quantity.
    """

    errors: Errors = field(default_factory=Errors)
    seconds: float = math.inf  # for all blocks of a case
    spreads: Mapping[tuple[bool, str], Spread] = field(default_factory=dict)

    def errors_over(self, blocks: Sequence[Block]) -> Errors:
        """What may be spent, over as many looks as there will be: slow blocks end the budget before the last.

        How many that are follows from how long the first block took, never from the effect that it has shown.
        There may be more blocks than were planned.
        """
        planned = self.errors.looks
        if blocks and blocks[0].seconds:
            planned = int(min(planned, self.seconds / blocks[0].seconds + 2))  # one before the clock starts, one after
        return replace(self.errors, looks=max(planned, len(blocks)))
