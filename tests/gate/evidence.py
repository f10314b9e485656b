"""Simulated evidence for the judge: values as the engine would hand them over, with noise of a known size."""

from __future__ import annotations

import math
import random

from perfsuite.baseline.machine import Machine
from perfsuite.baseline.schema import Entry, StoredExact, StoredScores, StoredTime, pack_bits
from perfsuite.case import Case
from perfsuite.gate.baseline import Baseline
from perfsuite.gate.limits import parse_limit
from perfsuite.registry import METRICS
from perfsuite.spec import CANDIDATE, ORIGINAL, YARDSTICK, Block, Chunk, Context, Evidence, Facts, Scores

CASE = Case(model="m", batch_size=4)
HERE = Machine(cpu="cpu", isa="avx2", cores=2, os="Linux", python="3.11", torch="2.13.0", threads=2)
ELSEWHERE = Machine(cpu="other", isa="avx2", cores=2, os="Linux", python="3.11", torch="2.13.0", threads=2)
CONTEXT = Context("2.13.0", "int8:int_mm")
OPERATORS = {"aten::addmm": 12, "aten::gelu": 2}
EXACT = {"size_bytes": 1000, "sparsity": 0.5, "operators": 14, "peak_memory_bytes": 4000, "flops": 10_000}


def limit(name, text):
    return parse_limit(METRICS.get(name), text)


def blocks(number, ratio=1.0, speedup=1.0, between=0.02, seed=0, fresh=True, scale=1.0):
    """``ratio`` is candidate/yardstick; between processes it varies by ``between``, within one by a percent."""
    rng = random.Random(seed)
    found = []
    for index in range(number):
        mine = ratio * math.exp(rng.gauss(0, between))
        chunks = []
        for turn in range(8):
            drift = 1 + 0.1 * math.sin(turn)
            for arm, time in ((CANDIDATE, mine), (YARDSTICK, 1.0), (ORIGINAL, mine * speedup)):
                chunks.append(Chunk(arm, (1e6 * scale * time * drift * math.exp(rng.gauss(0, 0.01)),)))
        found.append(Block(tuple(chunks), index, fresh, 2))
    return tuple(found)


def evidence(exact=None, operators=None, scores=None, original=None, relations=None, **kwargs):
    counts = {"operators": OPERATORS if operators is None else operators}
    facts = {CANDIDATE: Facts({**EXACT, **(exact or {})}, counts, scored(scores))}
    if original is not None:
        facts[ORIGINAL] = original
    return Evidence(CASE, kwargs.pop("context", CONTEXT), facts, relations=relations or {}, yardstick="y-1", **kwargs)


def stored(times=None, exact=EXACT, scores=None, machine=HERE, torch="2.13.0"):
    """A baseline with five processes at ratio 1, unless told otherwise."""
    ratios = times if times is not None else (-0.02, -0.01, 0.0, 0.01, 0.02)
    entry = Entry(
        StoredExact("abc", torch, "int8:int_mm", dict(exact), dict(OPERATORS)),
        StoredScores("abc", "digits", "d1", len(scores), pack_bits(scores)) if scores else None,
        {machine.id: StoredTime("abc", "y-1", tuple(ratios), 1.0, 1.1, 1.2)},
    )
    return Baseline(entry, HERE, {machine.id: machine}, "pytest --perf-update x")


def scored(scores):
    """What a model has by example whose task gives these."""
    return {name: scores for name in ("accuracy", "accuracy_kept") if scores}


def original(scores):
    """The facts of an original whose task gives these."""
    return Facts(per_example=scored(scores))


def scores(correct, examples="d1"):
    return Scores("digits", examples, tuple(correct))
