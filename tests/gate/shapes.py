"""Simulated data of any metric, made by the shape that its probe says: unchanged, or worse by a factor."""

from __future__ import annotations

import math
import random

from perfsuite.baseline.schema import Entry
from perfsuite.gate.baseline import Baseline, BaseRevision
from perfsuite.gate.limits import parse_limit
from perfsuite.metric import (
    Against,
    Counted,
    Direction,
    Exact,
    Metric,
    PerExample,
    Relation,
    Sampled,
    Scores,
)
from perfsuite.registry import METRICS
from perfsuite.session.record import entry_of
from perfsuite.spec import (
    BASE,
    CANDIDATE,
    ORIGINAL,
    YARDSTICK,
    BesideBase,
    Block,
    Chunk,
    Evidence,
    Facts,
    Limit,
    LimitKind,
)
from perfsuite.units import Unit
from tests.gate.evidence import CASE, CONTEXT, HERE

LOWER, HIGHER = Direction.LOWER, Direction.HIGHER
OWN = (  # int stands for a function: what it would measure is simulated
    Metric("energy", Unit.JOULES, LOWER, Sampled(int)),
    Metric("examples_per_joule", Unit.NUMBER, HIGHER, Sampled(int, rate=True)),
    Metric("hits", Unit.NUMBER, HIGHER, Sampled(int)),
    Metric("energy_ratio", Unit.RATIO, LOWER, Sampled(int), Against.ORIGINAL),
    Metric("energy_saved", Unit.RATIO, HIGHER, Sampled(int, rate=True), Against.ORIGINAL),
    Metric("hits_ratio", Unit.RATIO, HIGHER, Sampled(int), Against.ORIGINAL),
    Metric("f1", Unit.FRACTION, HIGHER, PerExample(bool)),
    Metric("mistakes", Unit.FRACTION, LOWER, PerExample(bool)),
    Metric("error", Unit.NUMBER, LOWER, PerExample(float)),
    Metric("overlap", Unit.RATIO, HIGHER, PerExample(float)),
    Metric("error_kept", Unit.RATIO, LOWER, PerExample(float), Against.ORIGINAL),
    Metric("layers", Unit.COUNT, LOWER, Counted(int)),
    Metric("fused", Unit.COUNT, HIGHER, Counted(int)),
    Metric("biases", Unit.COUNT, LOWER, Exact(int)),
    Metric("width", Unit.RATIO, LOWER, Relation(int)),
)


ALL = {metric.name: metric for metric in (*map(METRICS.get, METRICS.names()), *OWN)}


def limit(name, text=None):
    metric = ALL[name]
    return parse_limit(metric, text or ("1pp" if metric.unit is Unit.FRACTION else "20%"))


def bound(metric, value):
    kind = LimitKind.AT_LEAST if metric.better is HIGHER else LimitKind.AT_MOST
    return Limit(metric, kind, value, f"{kind.value}{value:g}")


def value(metric, factor):
    """1, or worse by the factor."""
    return 1 / factor if metric.better is HIGHER else factor


def blocks(metric, factor=1.0, elapsed=1.0, number=4):
    """A call takes 2 units and 1 ms, the yardstick's a third; the candidate's so much more or less of the quantity."""
    rng, quantity = random.Random(0), metric.quantity
    amount = value(metric, factor) ** metric.probe.exponent
    order = (CANDIDATE, YARDSTICK, BASE, ORIGINAL)

    def chunk(arm):
        mine = arm == CANDIDATE
        used = (amount if mine else 1 / 3 if arm == YARDSTICK else 1.0) * math.exp(rng.gauss(0, 0.001))
        if not quantity:
            return Chunk(arm, (1e6 * used,))
        return Chunk(arm, (1e6 * (elapsed if mine else 1.0),), {quantity: 2 * used})

    turns = [order if turn % 2 == 0 else order[::-1] for turn in range(8)]
    return tuple(Block(tuple(chunk(arm) for turn in turns for arm in turn), n, True, 2) for n in range(number))


def scores(metric, factor=1.0, number=400):
    """Of flags, a tenth is bad, or so many times that; numbers are about 2."""
    if metric.unit is Unit.FRACTION:
        bad = round(number / 10 * factor)
        return Scores("t", "e", tuple((index >= bad) is (metric.better is HIGHER) for index in range(number)))
    rng = random.Random(0)
    return Scores("t", "e", tuple(rng.gauss(2, 0.3) * value(metric, factor) for _ in range(number)))


def facts(metric, factor=1.0):
    match metric.probe:
        case PerExample():
            return Facts(per_example={metric.name: scores(metric, factor)})
        case Counted():
            counts = {"a": 20, "b": round(100 * value(metric, factor))}
            return Facts({metric.stored_name: sum(counts.values())}, {metric.name: counts})
        case Exact():
            return Facts({metric.stored_name: 0.5 * value(metric, factor)})
    return Facts()


def evidence(metric, factor=1.0, **how):
    sampled = blocks(metric, factor, **how) if isinstance(metric.probe, Sampled) else ()
    relations = {metric.name: value(metric, factor)} if isinstance(metric.probe, Relation) else {}
    of_original = {ORIGINAL: facts(metric)} if metric.against is Against.ORIGINAL else {}
    arms = {CANDIDATE: facts(metric, factor), BASE: facts(metric), **of_original}
    return Evidence(
        CASE, CONTEXT, arms, sampled, "y-1", relations,
        beside_base=sampled, base=BesideBase(context=CONTEXT),
    )  # fmt: skip


def recorded(metric):
    """The baseline that unchanged code leaves."""
    sampled = isinstance(metric.probe, Sampled)
    return Baseline(entry_of(evidence(metric), "c", HERE.id if sampled else ""), HERE, {HERE.id: HERE}, "record it")


def beside_main():
    return Baseline(Entry(), HERE, base=BaseRevision("main"))
