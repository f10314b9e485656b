"""What evidence is judged against: the stored entry, and how to say where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from perfsuite.baseline.machine import Machine
from perfsuite.baseline.schema import Entry
from perfsuite.stats.decision import Spread
from perfsuite.stats.sequential import Errors


@dataclass(frozen=True)
class BaseRevision:
    """A base that candidates are sampled beside. ``missing``: why there is nothing to compare with, or empty.

    ``stored_stands``: what was accepted and has no noise is known all the same, from the baseline.
    """

    name: str  # such as "main (abc123def456)"
    missing: str = ""
    stored_stands: bool = False
    twins: bool = True  # both revisions in one process, not in one each


@dataclass(frozen=True)
class Reference:
    """``update`` is the command that records a baseline for the case; ``machines`` are those of its file.

    With a ``base``, the entry holds what was measured of the base, unless it was accepted before.
    ``spread`` is what is known of the spread between blocks beside the base, before this case.
    """

    entry: Entry | None
    here: Machine
    machines: Mapping[str, Machine] = field(default_factory=dict)
    update: str = "pytest --perf-update"
    base: BaseRevision | None = None
    errors: Errors = field(default_factory=Errors)
    spread: Spread | None = None

    def errors_over(self, blocks: int) -> Errors:
        """What may be spent at so many blocks; recorded baselines may have more than a session looks at."""
        return replace(self.errors, looks=max(self.errors.looks, blocks))

    @property
    def then(self) -> str:
        """What the expected numbers are called in a sentence."""
        return self.base.name if self.base else "accepted"
