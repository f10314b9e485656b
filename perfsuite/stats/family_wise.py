"""The family-wise error of a session of many verdicts, each given before the next is measured.

Holm's step-down needs all p-values at once. The fallback procedure (Wiens 2003; strong control of
the family-wise error under any dependence: Wiens and Dmitrienko 2005) goes in a fixed order: every
hypothesis has a share of its own, and one that is rejected passes all that it was tested at on to
the next.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FallbackBudget:
    """What the next test may spend: its own share, and what was passed on to it.

    Tests that were not announced spend one further share: half of it, a quarter, and so on, so that
    the sum stays below the total however many come.
    """

    share: float
    announced: int  # tests still to come, the next included
    passed_on: float = 0.0

    @staticmethod
    def of(total: float, tests: int) -> FallbackBudget:
        """``total`` is the chance that any verdict of the session is a false alarm."""
        if tests < 1:
            raise ValueError(f"{tests} tests: announce at least one")
        return FallbackBudget(total / (tests + 1), tests)

    @property
    def alpha(self) -> float:
        """The error of the next test."""
        return self.share + self.passed_on

    def after(self, rejected: bool) -> FallbackBudget:
        """For the test after the next one. ``rejected``: the next one found a regression."""
        share = self.share if self.announced > 1 else self.share / 2
        return FallbackBudget(share, max(self.announced - 1, 0), self.alpha if rejected else 0.0)

    def untested(self) -> FallbackBudget:
        """For the test after the next one, where the next one is proven to hold: it errs never, and spends nothing."""
        return self.after(rejected=True)
