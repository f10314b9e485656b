"""``latency="auto"``: a tolerance that follows from the spread that is known before this run, and no tighter."""

from __future__ import annotations

import math
from dataclasses import replace

from perfsuite.spec import Direction, Limit, LimitKind
from perfsuite.stats.decision import POWER, Spread, student_t_quantile
from perfsuite.stats.sequential import Errors
from perfsuite.stats.spending import evenly, level
from perfsuite.units import format_change

BLOCKS = 4  # unchanged code should be acquitted with so many


def resolved(limit: Limit, spread: Spread, errors: Errors, stored_blocks: float = math.inf, own: float = 0.0) -> Limit:
    """An automatic limit as a relative one: what unchanged code passes with power 0.9 by four blocks.

    ``stored_blocks`` is what the reference itself was measured with; a base is measured anew.
    """
    if limit.kind is not LimitKind.AUTOMATIC:
        return limit
    change = tolerance(spread, errors, stored_blocks, own)
    # A throughput falls by 1 - 1/(1+x) where a latency grows by x.
    value = change if limit.metric.better is Direction.LOWER else change / (1 + change)
    return replace(limit, kind=LimitKind.RELATIVE, value=value, text=f"auto ({format_change(1 + value)[1:]})")


def tolerance(spread: Spread, errors: Errors, stored_blocks: float = math.inf, own: float = 0.0) -> float:
    """The relative change that unchanged code stays below with power 0.9 by four blocks.

    ``own`` is a block's own error, where ``spread`` is only what differs from process to process.
    """
    look = min(BLOCKS, errors.looks)
    error = math.hypot(spread.sd * math.sqrt(1 / look + 1 / stored_blocks), own / math.sqrt(look))
    reach = student_t_quantile(1 - level(errors.beta, look, errors.looks, evenly), spread.df)
    return math.expm1((reach + student_t_quantile(POWER, spread.df)) * error)
