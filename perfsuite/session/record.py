"""From evidence to what is stored of it, and to the numbers that reports show beside verdicts."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence

from msgspec.structs import replace

from perfsuite.baseline.schema import (
    ACCURACY,
    OPERATORS,
    Entry,
    StoredExact,
    StoredSamples,
    StoredScores,
    StoredTime,
    StoredValues,
    pack_bits,
)
from perfsuite.gate.expected import Expected
from perfsuite.metric import ELAPSED, Scores
from perfsuite.session.settings import Judged
from perfsuite.spec import CANDIDATE, YARDSTICK, Block, Evidence, Status, Verdict
from perfsuite.stats.blocks import log_ratio, quantile

_DIGITS = 6  # log ratios are stored to a millionth: their noise is ten thousand times that


def entry_of(evidence: Evidence, commit: str, machine_id: str) -> Entry:
    """The entry that accepts this evidence. ``machine_id`` is empty where no samples are to be stored."""
    facts, context = evidence.candidate, evidence.context
    exact = StoredExact.of(commit, context.torch, context.kernels, facts.exact, facts.counts) if facts.exact else None
    scored = _scored(evidence).items()
    flags = {name: _flags(found, commit) for name, found in scored if found.are_flags}
    numbers = {name: _numbers(found, commit) for name, found in scored if not found.are_flags}
    entry = Entry(exact, flags.pop(ACCURACY, None), of=dict(evidence.case.of), flags=flags, numbers=numbers)
    if not machine_id:
        return entry
    sampled = {quantity: _samples(evidence, quantity, commit) for quantity in _counted(evidence)}
    time = {machine_id: _stored_time(evidence, commit)}
    return replace(entry, time=time, sampled={machine_id: sampled} if sampled else {})


def information_of(evidence: Evidence) -> dict[str, object]:
    """Numbers that are shown and not judged."""
    shown: dict[str, object] = dict(evidence.information)
    shown.update(evidence.relations)
    shown.update(evidence.candidate.exact)
    shown.update({name: scores.mean for name, scores in _scored(evidence).items()})
    blocks = evidence.blocks or evidence.beside_base
    if blocks:
        p50, p90, p99 = _percentiles_ms(blocks)
        shown.update(p50_ms=p50, p90_ms=p90, p99_ms=p99, examples_per_s=evidence.case.batch_size / p50 * 1e3)
        shown["warmed_up"] = all(block.warm for block in blocks)
    if evidence.yardstick and any(block.of(YARDSTICK) for block in evidence.blocks):
        logs = [log_ratio(block, CANDIDATE, YARDSTICK) for block in evidence.blocks]
        shown.update(yardstick=evidence.yardstick, yardstick_ratio=math.exp(statistics.fmean(logs)))
    return shown


def judged_of(verdicts: Sequence[Verdict], evidence: Evidence, then: Expected) -> Judged:
    """The verdicts, with what reports draw beside them."""
    blocks = evidence.blocks or evidence.beside_base
    samples = tuple(tuple(round(ns / 1e6, _DIGITS) for ns in block.of(CANDIDATE)) for block in blocks)
    before, after = (facts.counts.get(OPERATORS, {}) for facts in (then.facts, evidence.candidate))
    changed = {name: (before.get(name, 0), after.get(name, 0)) for name in sorted({*before, *after})}
    differing = {name: pair for name, pair in changed.items() if pair[0] != pair[1]} if before and after else {}
    return Judged(tuple(verdicts), information_of(evidence), samples, differing)


def not_recorded(judged: Judged) -> Judged:
    """Of a test that failed after its gate: what it accepted is not stored."""
    verdicts = tuple(
        _unstored(verdict) if verdict.status is Status.RECORDED else verdict for verdict in judged.verdicts
    )
    return dataclasses.replace(judged, verdicts=verdicts)


def _unstored(verdict: Verdict) -> Verdict:
    return dataclasses.replace(
        verdict,
        status=Status.NOT_MEASURED,
        sentence=f"{verdict.metric} was not recorded, because its test did not pass",
        remedy="mend the test, then record it again",
    )


def _scored(evidence: Evidence) -> dict[str, Scores]:
    """What the candidate has by example, by metric; without what is only judged beside the original's."""
    related = evidence.original.per_example
    return {name: scores for name, scores in evidence.candidate.per_example.items() if name not in related}


def _flags(scores: Scores, commit: str) -> StoredScores:
    return StoredScores(commit, scores.task, scores.examples, len(scores.values), pack_bits(scores.correct))


def _numbers(scores: Scores, commit: str) -> StoredValues:
    values = " ".join(repr(float(value)) for value in scores.values)  # in full: unchanged ones are equal
    return StoredValues(commit, scores.task, scores.examples, values)


def _counted(evidence: Evidence) -> set[str]:
    """The quantities that grew in every chunk of both arms, beside time."""
    chunks = [chunk for block in evidence.blocks for chunk in block.chunks if chunk.arm in (CANDIDATE, YARDSTICK)]
    names = {name for chunk in chunks for name in chunk.counted}
    return {name for name in names if all(chunk.counted.get(name, 0) > 0 for chunk in chunks)}


def _samples(evidence: Evidence, quantity: str, commit: str) -> StoredSamples:
    typical = statistics.median(statistics.median(block.amounts(CANDIDATE, quantity)) for block in evidence.blocks)
    return StoredSamples(commit, evidence.yardstick, _log_ratios(evidence, quantity), typical)


def _log_ratios(evidence: Evidence, quantity: str = ELAPSED) -> tuple[float, ...]:
    blocks = evidence.blocks
    return tuple(round(log_ratio(block, CANDIDATE, YARDSTICK, quantity), _DIGITS) for block in blocks)


def _stored_time(evidence: Evidence, commit: str) -> StoredTime:
    p50, p90, p99 = (round(value, _DIGITS) for value in _percentiles_ms(evidence.blocks))
    return StoredTime(commit, evidence.yardstick, _log_ratios(evidence), p50, p90, p99)


def _percentiles_ms(blocks: Sequence[Block]) -> tuple[float, float, float]:
    """The median over blocks of each block's percentile: one slow process does not set them."""
    samples = [block.of(CANDIDATE) for block in blocks]
    p50, p90, p99 = (statistics.median(quantile(s, q) for s in samples) / 1e6 for q in (0.5, 0.9, 0.99))
    return p50, p90, p99
