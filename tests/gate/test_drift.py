"""What grows with the calls is neither within a limit nor better; what has regressed stays so. The drift is told."""

from dataclasses import replace

import pytest

from perfsuite.gate.baseline import BaseRevision
from perfsuite.gate.judge import judge
from perfsuite.spec import BASE, CANDIDATE, ORIGINAL, SECOND, YARDSTICK, Block, Chunk, Status
from perfsuite.stats.external_samples import beside_seconds
from tests.gate.evidence import evidence, limit, stored

MS = 1_000_000
ROUNDS = 30
GROWING = [MS * 8 ** (number / (ROUNDS - 1) - 0.5) for number in range(ROUNDS)]  # from a third to three times
STEADY = [MS] * ROUNDS
DRIFTS = "later calls take 4.2 times as long as the first ones of the same process"


def block(**arms):
    names = {"candidate": CANDIDATE, "base": BASE, "original": ORIGINAL, "yardstick": YARDSTICK}
    turns = [Chunk(names[arm], (times[number],)) for number in range(ROUNDS) for arm, times in arms.items()]
    return Block(tuple(turns), 0, fresh=True, threads=2)


def times(ratio, values):
    return [ratio * value for value in values]


def judged(name, text, blocks, reference=None, **more):
    return judge(limit(name, text), evidence(blocks=blocks, **more), reference or stored(times=(0.0,) * 5))


@pytest.mark.parametrize("ratio", [1.0, 0.3])
def test_neither_within_a_tolerance_nor_better(ratio):
    steady = judged("latency", "60%", (block(candidate=times(ratio, STEADY), yardstick=STEADY),) * 4)
    growing = judged("latency", "60%", (block(candidate=times(ratio, GROWING), yardstick=STEADY),) * 4)
    assert steady.status is {1.0: Status.PASS, 0.3: Status.IMPROVED}[ratio]
    assert (growing.status, growing.sentence) == (Status.NOT_MEASURED, f"latency has no one value: {DRIFTS}")
    assert "setup=" in growing.remedy
    assert not growing.is_open


def test_a_regression_stays_one():
    verdict = judged("latency", "5%", (block(candidate=times(5, GROWING), yardstick=STEADY),) * 4)
    assert verdict.status is Status.REGRESSED
    assert DRIFTS in verdict.details
    assert verdict.remedy == "if this is intended, accept it: pytest --perf-update x"


def test_what_is_open_stays_so_since_the_change_may_have_brought_the_drift():
    verdict = judged("latency", "5%", (block(candidate=times(1.1, GROWING), yardstick=STEADY),))
    assert (verdict.status, verdict.details[-1]) == (Status.INCONCLUSIVE, DRIFTS)
    assert "setup=" in verdict.remedy


def test_the_machine_that_gets_slower_is_no_drift():
    verdict = judged("latency", "60%", (block(candidate=GROWING, yardstick=GROWING),) * 4)
    assert verdict.status is Status.PASS


@pytest.mark.parametrize(("name", "text"), [("latency", "<=1 s"), ("throughput", ">=1")])
def test_a_bound_has_nothing_to_be_told_beside(name, text):
    assert judged(name, text, (block(candidate=STEADY),)).status is Status.PASS
    assert judged(name, text, (block(candidate=GROWING),)).status is Status.NOT_MEASURED


def test_nor_has_a_time_that_was_imported_without_a_yardstick():
    reference = stored(times=(0.0,) * 5)
    time = next(iter(reference.entry.time.values()))
    entry = replace_time(reference.entry, yardstick=SECOND, log_ratios=(-6.9,) * 5, p50_ms=time.p50_ms)
    grows = beside_seconds(block(candidate=GROWING))
    given = replace(evidence(blocks=(grows,) * 4), yardstick=SECOND)
    assert judge(limit("latency", "60%"), given, replace(reference, entry=entry)).status is Status.NOT_MEASURED


def replace_time(entry, **changed):
    import msgspec

    ((machine, time),) = entry.time.items()
    return msgspec.structs.replace(entry, time={machine: msgspec.structs.replace(time, **changed)})


def test_relations_are_looked_at_beside_the_original_and_alone():
    assert judged("speedup", ">=0.5", (block(candidate=STEADY, original=STEADY),) * 4).status is Status.PASS
    assert judged("speedup", ">=0.5", (block(candidate=GROWING, original=STEADY),) * 4).status is Status.NOT_MEASURED
    assert judged("speedup", ">=0.5", (block(candidate=GROWING, original=GROWING),) * 4).status is Status.NOT_MEASURED


def test_beside_a_base_what_grows_in_both_is_seen_as_well():
    reference = replace(stored(), base=BaseRevision("main"))
    for mine, base, status in (
        (STEADY, STEADY, Status.PASS),
        (GROWING, STEADY, Status.NOT_MEASURED),
        (GROWING, GROWING, Status.NOT_MEASURED),
        (times(9, GROWING), STEADY, Status.REGRESSED),
    ):
        given = evidence(beside_base=(block(candidate=mine, base=base),) * 4)
        assert judge(limit("latency", "60%"), given, reference).status is status


def test_what_was_not_measured_or_has_no_baseline_is_left_as_it_is():
    growing = (block(candidate=GROWING, yardstick=STEADY),)
    assert judged("latency", "5%", (), not_timed="why").sentence == "latency was not measured: why"
    assert judged("latency", "5%", growing, replace(stored(), entry=None)).status is Status.NO_BASELINE
