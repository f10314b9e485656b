"""What evidence is judged against: the stored entry, and how to say where it came from."""

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
    """A base that candidates are sampled beside. ``missing``: why there is nothing to compare with, or empty.
    ``remedy``: what to do about that.

    ``stored_stands``: what was accepted and has no noise is known all the same, from the baseline.
    """

    name: str  # such as "main (abc123def456)"
    missing: str = ""
    remedy: str = ""
    stored_stands: bool = False
    twins: bool = True  # both revisions in one process, not in one each


@dataclass(frozen=True)
class Reference:
    """``update`` is the command that records a baseline for the case; ``machines`` are those of its file.

    With a ``base``, the entry holds what was measured of the base, unless it was accepted before.
    ``spread`` is what is known of the spread between blocks beside the base, before this case. ``another``
    names what tells that the entry was recorded of another case of the same name (perfsuite.baseline.identity).
    """

    entry: Entry | None
    here: Machine
    machines: Mapping[str, Machine] = field(default_factory=dict)
    update: str = "pytest --perf-update"
    base: BaseRevision | None = None
    errors: Errors = field(default_factory=Errors)
    budget_s: float = math.inf  # for all blocks of a case
    spread: Spread | None = None
    another: tuple[str, ...] = ()

    def errors_over(self, blocks: Sequence[Block]) -> Errors:
        """What may be spent, over as many looks as there will be: slow blocks end the budget before the last.

        How many that are follows from how long the first block took, never from the effect that it has shown.
        There may be more blocks than were planned.
        """
        planned = self.errors.looks
        if blocks and blocks[0].seconds:
            planned = int(min(planned, self.budget_s / blocks[0].seconds + 2))  # one before the clock starts, one after
        return replace(self.errors, looks=max(planned, len(blocks)))

    @property
    def then(self) -> str:
        """What the expected numbers are called in a sentence."""
        return self.base.name if self.base else "accepted"
