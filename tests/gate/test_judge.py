import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfsuite.gate.baseline import Baseline
from perfsuite.gate.judge import judge
from perfsuite.spec import Status
from perfsuite.units import Unit
from tests.gate.evidence import (
    ELSEWHERE,
    EXACT,
    HERE,
    OPERATORS,
    blocks,
    evidence,
    limit,
    original,
    scores,
    stored,
)

EXACT_LIMITS = [("size", "0%"), ("peak_memory", "0%"), ("flops", "0%"), ("operators", "0%"), ("sparsity", "0pp")]


def status(name, text, found, reference):
    return judge(limit(name, text), found, reference).status


# exact metrics


@pytest.mark.parametrize(
    ("name", "text"), [*EXACT_LIMITS, ("latency", "5%"), ("throughput", "5%"), ("accuracy", "1pp")]
)
def test_identical_evidence_passes(name, text):
    right = (True, False) * 20
    found = evidence(scores=scores(right), blocks=blocks(20))
    reference = stored(
        times=[math.log(b.chunks[0].median_ns / b.chunks[1].median_ns) for b in found.blocks], scores=right
    )
    assert status(name, text, found, reference) is Status.PASS


@pytest.mark.parametrize(
    ("name", "stored_name", "worse", "better"),
    [
        ("size", "size_bytes", 1001, 999),
        ("peak_memory", "peak_memory_bytes", 4001, 3999),
        ("flops", "flops", 10_001, 9_999),
        ("sparsity", "sparsity", 0.49, 0.51),
    ],
)
def test_both_directions_of_exact_metrics(name, stored_name, worse, better):
    text = "0pp" if name == "sparsity" else "0%"
    assert status(name, text, evidence({stored_name: worse}), stored()) is Status.REGRESSED
    assert status(name, text, evidence({stored_name: better}), stored()) is Status.IMPROVED


@given(st.floats(0, 1), st.integers(1, 10**9), st.integers(1, 10**9))
def test_relative_tolerance_is_exact_arithmetic(tolerance, before, after):
    reference = stored(exact={"size_bytes": before})
    found = status("size", f"{tolerance * 100:.6f}%", evidence({"size_bytes": after}), reference)
    allowed = float(f"{tolerance * 100:.6f}") / 100 * before
    assert (found is Status.REGRESSED) == (after - before > allowed)


def test_absolute_tolerance():
    assert status("size", "5 B", evidence({"size_bytes": 1005}), stored()) is Status.PASS
    assert status("size", "5 B", evidence({"size_bytes": 1006}), stored()) is Status.REGRESSED


def test_operators_added_are_not_hidden_by_operators_gone():
    swapped = {"aten::addmm": 11, "aten::gelu": 2, "aten::copy_": 1}
    verdict = judge(limit("operators", "0%"), evidence({"operators": 14}, swapped), stored())
    assert verdict.status is Status.REGRESSED
    assert "+1 aten::copy_, -1 aten::addmm" in verdict.details[0]
    fewer = judge(limit("operators", "0%"), evidence({"operators": 13}, {"aten::addmm": 11, "aten::gelu": 2}), stored())
    assert fewer.status is Status.IMPROVED


def test_a_regression_says_what_else_changed_and_the_remedy():
    verdict = judge(limit("size", "1%"), evidence({"size_bytes": 1200}, {**OPERATORS, "aten::copy_": 4}), stored())
    assert verdict.sentence == "size is 1.2 kB, accepted was 1 kB (+20.0%): worse by more than the tolerated 10 B"
    assert verdict.details == ("operators: +4 aten::copy_", "size_bytes: 1,000 -> 1,200")
    assert verdict.remedy == "if this is intended, accept it: pytest --perf-update x"
    assert (verdict.measured, verdict.expected, verdict.change) == (1200, 1000, 1.2)


def test_equal_in_print_is_shown_in_full():
    verdict = judge(limit("size", "0%"), evidence({"size_bytes": 10_000_001}), stored(exact={"size_bytes": 10_000_000}))
    assert "10,000,001" in verdict.sentence


def test_another_torch_makes_dispatch_incomparable_but_not_size():
    reference = stored(torch="2.12.0")
    assert status("operators", "0%", evidence(), reference) is Status.INCOMPARABLE
    assert status("peak_memory", "0%", evidence(), reference) is Status.INCOMPARABLE
    assert status("size", "0%", evidence(), reference) is Status.PASS


@pytest.mark.parametrize(("name", "text"), EXACT_LIMITS)
def test_no_baseline_is_never_green(name, text):
    verdict = judge(limit(name, text), evidence(), Baseline(None, HERE, update="pytest --perf-update x"))
    assert verdict.status is Status.NO_BASELINE
    assert verdict.status.fails()
    assert verdict.remedy == "record it: pytest --perf-update x"


def test_bounds_need_no_baseline():
    nothing = Baseline(None, HERE)
    assert status("size", "<=1 kB", evidence(), nothing) is Status.PASS
    assert status("size", "<=999 B", evidence(), nothing) is Status.REGRESSED
    assert status("sqnr", ">=20 dB", evidence(relations={"sqnr": 31.0}), nothing) is Status.PASS
    assert status("sqnr", ">=20 dB", evidence(relations={"sqnr": 19.9}), nothing) is Status.REGRESSED
    assert status("sqnr", ">=20 dB", evidence(), nothing) is Status.NOT_MEASURED


# times


@pytest.mark.parametrize("name", ["latency", "throughput"])
def test_a_slowdown_of_30_percent_is_red_and_a_speedup_is_said(name):
    """Simulated samples: 3% between processes, five blocks."""
    slower = judge(limit(name, "10%"), evidence(blocks=blocks(5, ratio=1.3, between=0.03)), stored())
    assert slower.status is Status.REGRESSED
    assert slower.remedy
    faster = judge(limit(name, "10%"), evidence(blocks=blocks(5, ratio=0.7, between=0.03)), stored())
    assert faster.status is Status.IMPROVED
    ratio = {"latency": 1.3, "throughput": 1 / 1.3}[name]
    assert slower.change == pytest.approx(ratio, rel=0.06)
    assert slower.low < slower.change < slower.high


def test_one_block_alone_cannot_tell_five_percent():
    verdict = judge(limit("latency", "5%"), evidence(blocks=blocks(1, ratio=1.03)), stored())
    assert verdict.status is Status.INCONCLUSIVE
    assert not verdict.status.fails()
    assert verdict.status.fails(strict=True)
    assert "would have been seen" in verdict.sentence


@given(st.floats(0.5, 2.0), st.floats(1e-3, 1e3))
def test_scaling_all_times_of_a_session_changes_nothing(ratio, scale):
    one = judge(limit("latency", "10%"), evidence(blocks=blocks(4, ratio)), stored())
    scaled = judge(limit("latency", "10%"), evidence(blocks=blocks(4, ratio, scale=scale)), stored())
    assert one.status is scaled.status
    assert one.change == pytest.approx(scaled.change)


@given(st.integers(0, 10**6), st.integers(2, 6))
def test_adding_consistent_evidence_never_turns_regressed_into_pass(seed, number):
    found = blocks(12, ratio=1.3, between=0.03, seed=seed)
    first = status("latency", "10%", evidence(blocks=found[:number]), stored())
    if first is Status.REGRESSED:
        assert status("latency", "10%", evidence(blocks=found), stored()) is not Status.PASS


@given(st.integers(0, 10**6))
def test_swapping_candidate_and_baseline_flips_the_verdict(seed):
    slow = evidence(blocks=blocks(5, ratio=1.4, seed=seed))
    quick = evidence(blocks=blocks(5, ratio=1.0, seed=seed + 1))

    def as_reference(found):
        return stored(times=[math.log(b.chunks[0].median_ns / b.chunks[1].median_ns) for b in found.blocks])

    assert status("latency", "10%", slow, as_reference(quick)) is Status.REGRESSED
    assert status("latency", "10%", quick, as_reference(slow)) is Status.IMPROVED


def test_absolute_time_tolerance_is_relative_to_the_stored_time():
    slower = evidence(blocks=blocks(5, ratio=1.3))
    assert status("latency", "0.1 ms", slower, stored()) is Status.REGRESSED  # 1 ms was stored
    assert status("latency", "2 ms", slower, stored()) is Status.PASS


def test_a_foreign_machine_class_is_incomparable_and_says_how_it_differs():
    verdict = judge(limit("latency", "5%"), evidence(blocks=blocks(5)), stored(machine=ELSEWHERE))
    assert verdict.status is Status.INCOMPARABLE
    assert verdict.details == ("cpu: 'other', here 'cpu'",)
    assert verdict.remedy


def test_another_yardstick_is_incomparable():
    found = evidence(blocks=blocks(5))
    reference = stored()
    other = Baseline(
        type(reference.entry)(time={HERE.id: type(reference.entry.time[HERE.id])("c", "y-0", (0.0,), 1.0, 1.0, 1.0)}),
        HERE,
    )
    assert status("latency", "5%", found, other) is Status.INCOMPARABLE


def test_what_was_not_timed_says_why():
    verdict = judge(limit("latency", "5%"), evidence(not_timed="under xdist", not_timed_remedy="without -n"), stored())
    assert verdict.status is Status.NOT_MEASURED
    assert "under xdist" in verdict.sentence
    assert verdict.remedy == "without -n"


@pytest.mark.parametrize(
    ("true", "expected"), [(2.0, Status.PASS), (1.2, Status.REGRESSED), (1.5, Status.INCONCLUSIVE)]
)
def test_speedup_beside_the_original(true, expected):
    verdict = judge(limit("speedup", ">=1.5"), evidence(blocks=blocks(3, speedup=true)), Baseline(None, HERE))
    assert verdict.status is expected
    assert verdict.measured == pytest.approx(true, rel=0.02)
    assert verdict.low < verdict.measured < verdict.high


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("latency", "<=2 ms", Status.PASS),
        ("latency", "<=0.5 ms", Status.REGRESSED),
        ("throughput", ">=2000", Status.PASS),
        ("throughput", ">=9000/s", Status.REGRESSED),
    ],
)
def test_bounds_on_raw_time(name, text, expected):
    """1 ms for a batch of 4, on this machine."""
    verdict = judge(limit(name, text), evidence(blocks=blocks(3)), Baseline(None, HERE))
    assert verdict.status is expected
    assert verdict.measured == pytest.approx({"latency": 1e-3, "throughput": 4000}[name], rel=0.15)


# accuracy


def test_accuracy_down_by_three_points_is_red():
    before = (True,) * 350 + (False,) * 10
    after = (False,) * 11 + (True,) * 339 + (False,) * 10
    verdict = judge(limit("accuracy", "1pp"), evidence(scores=scores(after)), stored(scores=before))
    assert verdict.status is Status.REGRESSED
    assert "11 examples lost and 0 won of 360" in verdict.sentence
    assert verdict.details[0].startswith("examples lost: 0, 1, 2")
    assert (
        judge(limit("accuracy", "1pp"), evidence(scores=scores(before)), stored(scores=after)).status is Status.IMPROVED
    )


def test_inconclusive_says_what_would_have_been_seen():
    unclear = evidence(blocks=blocks(1, ratio=1.1))
    down = judge(limit("throughput", "10%"), unclear, stored())
    assert down.status is Status.INCONCLUSIVE
    assert "an effect of -" in down.sentence
    bound = judge(limit("speedup", ">=1.5"), evidence(blocks=blocks(3, speedup=1.5)), Baseline(None, HERE))
    said = re.search(r"; ([\d.]+)x would have been seen to miss it$", bound.sentence)
    assert 1.3 < float(said[1]) < 1.5
    before, after = (True,) * 50, (False,) * 3 + (True,) * 47
    few = judge(limit("accuracy", "1pp"), evidence(scores=scores(after)), stored(scores=before))
    assert few.sentence.endswith("(p = 0.12); 5 losses would have been seen")


def test_few_flips_beyond_the_tolerance_are_inconclusive():
    before, after = (True,) * 50, (False,) * 3 + (True,) * 47
    assert status("accuracy", "1pp", evidence(scores=scores(after)), stored(scores=before)) is Status.INCONCLUSIVE


def test_other_examples_cannot_be_paired():
    found = evidence(scores=scores((True,) * 10, examples="d2"))
    assert status("accuracy", "1pp", found, stored(scores=(True,) * 10)) is Status.INCOMPARABLE


def test_accuracy_kept_is_relative_to_the_original_on_the_same_examples():
    before = original(scores((True,) * 90 + (False,) * 10))
    found = evidence(scores=scores((True,) * 89 + (False,) * 11), original=before)
    verdict = judge(limit("accuracy_kept", ">=98%"), found, Baseline(None, HERE))
    assert verdict.status is Status.PASS
    assert verdict.measured == pytest.approx(89 / 90)
    assert "1 examples lost, 0 won, of 100" in verdict.sentence
    assert status("accuracy_kept", ">=99%", found, Baseline(None, HERE)) is Status.REGRESSED


def test_a_model_without_a_task_has_no_accuracy():
    assert status("accuracy", "1pp", evidence(), stored()) is Status.NOT_MEASURED
    assert status("accuracy", ">=90%", evidence(scores=scores((True,) * 10)), stored()) is Status.PASS


def test_every_verdict_prints_and_names_its_case():
    for name, text in [*EXACT_LIMITS, ("latency", "5%"), ("accuracy", "1pp")]:
        verdict = judge(limit(name, text), evidence(blocks=blocks(3), scores=scores((True,) * 9)), stored())
        assert verdict.case == "m/fp32/cpu/b4"
        assert Unit(verdict.unit)
        assert verdict.sentence
    assert EXACT["flops"] == 10_000
