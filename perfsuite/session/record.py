"""From evidence to what is stored of it, and to the numbers that reports show beside verdicts."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence

from msgspec.structs import replace

from perfsuite.baseline.schema import Entry, StoredExact, StoredScores, StoredTime, pack_bits
from perfsuite.session.settings import Judged
from perfsuite.spec import CANDIDATE, YARDSTICK, Context, Evidence, Facts, Scores, Status, Verdict
from perfsuite.stats.blocks import log_ratio, percentiles_ms

_DIGITS = 6  # log ratios are stored to a millionth: their noise is ten thousand times that


def entry_of(evidence: Evidence, commit: str, machine_id: str) -> Entry:
    """The entry that accepts this evidence. ``machine_id`` is empty where no time is to be stored."""
    entry = replace(entry_of_facts(evidence.candidate, evidence.context, commit), of=dict(evidence.case.of))
    return replace(entry, time={machine_id: _stored_time(evidence, commit)}) if machine_id else entry


def entry_of_facts(facts: Facts, context: Context, commit: str) -> Entry:
    """The entry that holds what has no noise."""
    exact = None
    if facts.exact:
        exact = StoredExact(commit, context.torch, context.kernels, dict(facts.exact), dict(facts.operators))
    return Entry(exact, _stored_scores(facts.scores, commit) if facts.scores else None)


def information_of(evidence: Evidence) -> dict[str, object]:
    """Numbers that are shown and not judged."""
    shown: dict[str, object] = dict(evidence.information)
    shown.update(evidence.relations)
    shown.update(evidence.candidate.exact)
    if evidence.candidate.scores:
        shown["accuracy"] = evidence.candidate.scores.accuracy
    blocks = evidence.blocks or evidence.beside_base
    if blocks:
        p50, p90, p99 = percentiles_ms(blocks, CANDIDATE)
        shown.update(p50_ms=p50, p90_ms=p90, p99_ms=p99, examples_per_s=evidence.case.batch_size / p50 * 1e3)
        shown["warmed_up"] = all(block.warm for block in blocks)
    if evidence.yardstick and any(block.of(YARDSTICK) for block in evidence.blocks):
        logs = [log_ratio(block, CANDIDATE, YARDSTICK) for block in evidence.blocks]
        shown.update(yardstick=evidence.yardstick, yardstick_ratio=math.exp(statistics.fmean(logs)))
    return shown


def judged_of(verdicts: Sequence[Verdict], evidence: Evidence, entry: Entry | None) -> Judged:
    """The verdicts, with what reports draw beside them."""
    blocks = evidence.blocks or evidence.beside_base
    samples = tuple(tuple(round(ns / 1e6, _DIGITS) for ns in block.of(CANDIDATE)) for block in blocks)
    before = entry.exact.operators if entry and entry.exact else {}
    after = evidence.candidate.operators
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


def _stored_scores(scores: Scores, commit: str) -> StoredScores:
    return StoredScores(commit, scores.task, scores.examples, len(scores.correct), pack_bits(scores.correct))


def _stored_time(evidence: Evidence, commit: str) -> StoredTime:
    ratios = tuple(round(log_ratio(block, CANDIDATE, YARDSTICK), _DIGITS) for block in evidence.blocks)
    p50, p90, p99 = (round(value, _DIGITS) for value in percentiles_ms(evidence.blocks, CANDIDATE))
    return StoredTime(commit, evidence.yardstick, ratios, p50, p90, p99)
