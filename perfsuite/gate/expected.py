"""What was expected of what has no noise: the stored entry, or what a base revision has shown of itself."""

from __future__ import annotations

from dataclasses import dataclass, field

from perfsuite.baseline.schema import Entry
from perfsuite.gate.baseline import Baseline
from perfsuite.spec import BASE, Context, Evidence, Facts


@dataclass(frozen=True)
class Expected:
    """Facts, and what those that were seen at dispatch depend on; empty where nothing is known."""

    facts: Facts = field(default_factory=Facts)
    context: Context | None = None


def expected(evidence: Evidence, baseline: Baseline) -> Expected:
    """A base that was measured speaks for itself, unless its own baseline was accepted there."""
    if baseline.stands_alone or evidence.base.missing:
        return _stored(baseline.entry or Entry())
    return Expected(evidence.facts.get(BASE, Facts()), evidence.base.context)


def _stored(entry: Entry) -> Expected:
    exact = entry.exact
    if exact is None:
        return Expected(Facts(per_example=entry.per_example()))
    return Expected(
        Facts(exact.metrics, exact.by_metric(), entry.per_example()), Context(exact.torch, exact.kernels)
    )  # fmt: skip
