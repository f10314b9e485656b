"""The sentences and numbers of timed verdicts. Noise-free blocks, so that every number follows from the priors."""

import math
from dataclasses import replace

import msgspec
import pytest

from perfsuite.gate.baseline import Baseline, Budget
from perfsuite.gate.judge import judge
from perfsuite.gate.sampled import arms_needed, can_be_judged, precision_needed
from perfsuite.spec import CANDIDATE, ORIGINAL, SECOND, YARDSTICK, Status
from perfsuite.stats.external_samples import beside_seconds
from perfsuite.stats.sequential import Errors
from tests.gate.evidence import ELSEWHERE, HERE, OPERATORS, evidence, limit, stored
from tests.gate.steady import block

NOTHING = Baseline(None, HERE, update="pytest --perf-update x")
LONGER = "measure longer (--perf-block-time, --perf-budget), tolerate more, or run on a quieter machine"
ACCEPT = "if this is intended, accept it: pytest --perf-update x"


def beside_yardstick(*ratios, fresh=True):
    return tuple(block(candidate=ratio, yardstick=1.0, fresh=fresh) for ratio in ratios)


def said(found):
    return found.status, found.sentence, found.remedy


@pytest.mark.parametrize(
    ("name", "text", "ratios", "status", "sentence", "remedy"),
    [
        ("latency", "5%", (1.0,), Status.INCONCLUSIVE, "latency changed by +0.0% (-17.2% to +11.9%) relative to the "
            "yardstick over 1 fresh block(s): too uncertain to judge 5%; an effect of +33.8% would have been seen",
            LONGER),
        ("latency", "20%", (1.0, 1.0), Status.PASS, "latency changed by +0.0% (-12.1% to +8.0%) relative to the "
            "yardstick over 2 fresh block(s): within 20%", ""),
        ("latency", "5%", (1.3, 1.3, 1.3), Status.REGRESSED, "latency changed by +30.0% (+18.1% to +38.2%) relative to "
            "the yardstick over 3 fresh block(s): worse than the tolerated 5%", ACCEPT),
        ("latency", "5%", (0.7, 0.7, 0.7), Status.IMPROVED, "latency changed by -30.0% (-36.4% to -25.6%) relative to "
            "the yardstick over 3 fresh block(s): better than accepted", ACCEPT),
        ("throughput", "5%", (1.3, 1.3, 1.3), Status.REGRESSED, "throughput changed by -23.1% (-27.6% to -15.3%) "
            "relative to the yardstick over 3 fresh block(s): worse than the tolerated 5%", ACCEPT),
        ("throughput", "5%", (1.1, 1.1, 1.1), Status.INCONCLUSIVE, "throughput changed by -9.1% (-14.5% to +0.043%) "
            "relative to the yardstick over 3 fresh block(s): too uncertain to judge 5%; an effect of -16.4% would "
            "have been seen", LONGER),
    ],
)  # fmt: skip
def test_what_is_said_of_a_stored_time(name, text, ratios, status, sentence, remedy):
    found = judge(limit(name, text), evidence(blocks=beside_yardstick(*ratios)), stored(times=(0.0,) * 5))
    assert said(found) == (status, sentence, remedy)


def test_the_numbers_of_a_stored_time_are_in_the_unit_of_its_metric():
    """1 ms was stored, for a batch of 4."""
    blocks, reference = beside_yardstick(1.3, 1.3, 1.3), stored(times=(0.0,) * 5)
    slower = judge(limit("latency", "5%"), evidence(blocks=blocks), reference)
    fewer = judge(limit("throughput", "5%"), evidence(blocks=blocks), reference)
    assert (slower.measured, slower.expected, slower.change) == pytest.approx((1.3e-3, 1e-3, 1.3))
    assert (fewer.measured, fewer.expected, fewer.change) == pytest.approx((4000 / 1.3, 4000, 1 / 1.3))
    assert (slower.low, slower.high) == pytest.approx((1 / fewer.high, 1 / fewer.low))
    assert slower.low < 1.3 < slower.high


def test_raw_time_is_said_to_be_so_and_known_half_as_well_as_beside_a_yardstick():
    """Before anything is known, 10% between processes instead of 5%; seconds are the yardstick of imported times."""
    imported = replace(evidence(blocks=tuple(beside_seconds(block(candidate=1.0)) for _ in range(2))), yardstick=SECOND)
    reference = stored(times=(0.0,) * 5)
    time = msgspec.structs.replace(reference.entry.time[HERE.id], yardstick=SECOND, log_ratios=(math.log(1e-3),) * 5)
    raw = judge(
        limit("latency", "50%"), imported, replace(reference, entry=replace_time(reference.entry, {HERE.id: time}))
    )
    beside = judge(limit("latency", "50%"), evidence(blocks=beside_yardstick(1.0, 1.0)), reference)
    assert raw.sentence.endswith(") in raw time over 2 fresh block(s): within 50%")
    assert math.log(raw.high) == pytest.approx(2 * math.log(beside.high))


def test_blocks_from_this_process_are_said_to_be_so():
    found = judge(limit("latency", "5%"), evidence(blocks=beside_yardstick(1.0, fresh=False)), stored())
    assert "over 1 in-place block(s)" in found.sentence


def test_more_stored_blocks_make_narrower_bounds():
    few, many = (
        judge(limit("latency", "5%"), evidence(blocks=beside_yardstick(1.0, 1.0)), stored(times=(0.0,) * number))
        for number in (2, 20)
    )
    assert few.low < many.low < many.high < few.high


def test_what_is_stored_tells_of_the_spread():
    calm, wild = (
        judge(limit("latency", "5%"), evidence(blocks=beside_yardstick(1.0, 1.0)), stored(times=times))
        for times in ((0.0, 0.0, 0.0, 0.0), (-0.2, 0.2, -0.2, 0.2))
    )
    assert calm.high - calm.low < (wild.high - wild.low) / 2


def test_what_the_session_allows_is_spent():
    blocks, reference = beside_yardstick(1.3, 1.3, 1.3), stored(times=(0.0,) * 5)
    strict = Budget(Errors(alpha=1e-6))
    assert judge(limit("latency", "5%"), evidence(blocks=blocks), reference, strict).status is Status.INCONCLUSIVE
    many = evidence(blocks=beside_yardstick(*[1.0] * 12))
    assert judge(limit("latency", "20%"), many, reference).status is Status.PASS  # more blocks than planned looks


def test_a_tolerance_in_seconds_or_of_a_rate_is_of_the_stored_time():
    """1 ms: 0.1 ms is a tenth; a throughput may fall by a tenth where the time may grow by a ninth."""
    reference = stored(times=(0.0,) * 5)
    blocks = evidence(blocks=beside_yardstick(*[1.0] * 4))
    high = judge(limit("latency", "50%"), blocks, reference).high
    for name, text, just_too_little, enough in (
        ("latency", "{} ms", high - 1.000001, high - 0.999999),
        ("latency", "{}%", 100 * (high - 1.000001), 100 * (high - 0.999999)),
        ("throughput", "{}%", 100 * (1 - 1.000001 / high), 100 * (1 - 0.999999 / high)),
    ):
        assert judge(limit(name, text.format(just_too_little)), blocks, reference).status is Status.INCONCLUSIVE
        assert judge(limit(name, text.format(enough)), blocks, reference).status is Status.PASS


def test_a_change_says_what_else_changed_and_no_change_says_nothing():
    reference = stored(times=(0.0,) * 5)
    more = {**OPERATORS, "aten::copy_": 4}
    slower = judge(limit("latency", "5%"), evidence(None, more, blocks=beside_yardstick(1.3, 1.3, 1.3)), reference)
    assert slower.details == ("operators: +4 aten::copy_",)
    same = judge(limit("latency", "20%"), evidence(None, more, blocks=beside_yardstick(1.0, 1.0)), reference)
    assert same.details == ()


def test_another_yardstick_says_which_and_the_remedy():
    found = judge(limit("latency", "5%"), replace(evidence(blocks=beside_yardstick(1.0)), yardstick="y-2"), stored())
    assert said(found) == (
        Status.INCOMPARABLE, "the baseline used the yardstick y-1, this run y-2",
        "record it again: pytest --perf-update x",
    )  # fmt: skip


def test_foreign_times_name_the_nearest_machine():
    found = judge(limit("latency", "5%"), evidence(blocks=beside_yardstick(1.0)), stored(machine=ELSEWHERE))
    assert said(found) == (
        Status.INCOMPARABLE, "latency is stored for other machine classes only (cpu: 'other', here 'cpu')",
        "record this machine class: pytest --perf-update x",
    )  # fmt: skip
    reference = stored(machine=ELSEWHERE)
    farther, nearer = msgspec.structs.replace(ELSEWHERE, cores=64), msgspec.structs.replace(HERE, isa="sse")
    times = dict.fromkeys((farther.id, nearer.id), reference.entry.time[ELSEWHERE.id])
    both = replace(reference, entry=replace_time(reference.entry, times), machines={m.id: m for m in (farther, nearer)})
    assert judge(limit("latency", "5%"), evidence(), both).details == ("isa: 'sse', here 'avx2'",)
    far = judge(limit("latency", "5%"), evidence(), replace(both, machines={farther.id: farther}))
    assert far.details == ("cpu: 'other', here 'cpu'", "cores: 64, here 2")
    assert far.sentence.endswith("machine classes only (cpu: 'other', here 'cpu'; cores: 64, here 2)")
    unnamed = replace(reference, machines={})
    found = judge(limit("latency", "5%"), evidence(), unnamed)
    assert found.sentence == "latency is stored for other machine classes only (unknown)"
    assert found.details == ()


def replace_time(entry, times):
    return type(entry)(entry.exact, entry.scores, times)


def test_no_stored_time_is_no_baseline():
    for reference in (NOTHING, replace(stored(), entry=replace_time(stored().entry, {}))):
        found = judge(limit("latency", "5%"), evidence(blocks=beside_yardstick(1.0)), reference)
        assert found.status is Status.NO_BASELINE
        assert found.sentence == "no baseline is stored for it"
        assert found.remedy == f"record it: {reference.update}"


def test_what_was_not_timed_says_why_even_where_nothing_is_stored():
    found = judge(limit("latency", "5%"), evidence(not_timed="under xdist", not_timed_remedy="without -n"), NOTHING)
    assert said(found) == (Status.NOT_MEASURED, "latency was not measured: under xdist", "without -n")
    found = judge(limit("latency", "5%"), evidence(), stored())
    assert said(found) == (Status.NOT_MEASURED, "latency was not measured: there is no block of samples", "")


@pytest.mark.parametrize(
    ("name", "text", "arms", "judged"),
    [
        ("latency", "5%", (CANDIDATE, YARDSTICK), False),
        ("latency", "<=2 ms", (CANDIDATE,), True),
        ("speedup", ">=2", (CANDIDATE, ORIGINAL), True),
    ],
)
def test_which_arms_a_limit_needs_and_whether_it_needs_a_baseline(name, text, arms, judged):
    assert arms_needed(limit(name, text)) == arms
    assert can_be_judged(limit(name, text), NOTHING) is judged
    assert can_be_judged(limit(name, text), stored(machine=ELSEWHERE)) is judged
    assert can_be_judged(limit(name, text), stored()) is True


@pytest.mark.parametrize(
    ("limits", "tolerance"),
    [
        ({"latency": "5%"}, 0.05),
        ({"latency": "5%", "throughput": "2%"}, 0.02),
        ({"latency": "5%", "size": "0%", "speedup": ">=2"}, 0.0),
        ({"latency": "5%", "size": "0%"}, 0.05),
        ({"latency": "auto"}, 0.0),
        ({"latency": "1 ms"}, 0.0),
        ({"latency": "<=1 ms"}, 0.0),
        ({"size": "0%"}, 0.0),
    ],
)
def test_blocks_may_end_early_where_only_relative_tolerances_ask_for_time(limits, tolerance):
    needed = precision_needed([limit(name, text) for name, text in limits.items()])
    assert needed == pytest.approx(math.log1p(tolerance) / 3)


@pytest.mark.parametrize(
    ("speedup", "status", "sentence", "remedy"),
    [
        (2.0, Status.PASS, "speedup is 2x (1.94x to 2.1x) beside the original in the same processes, "
            "which meets >= 1.5x", ""),
        (1.2, Status.REGRESSED, "speedup is 1.2x (1.17x to 1.26x) beside the original in the same processes, "
            "which misses >= 1.5x", ""),
        (1.5, Status.INCONCLUSIVE, "speedup is 1.5x (1.46x to 1.58x) beside the original in the same processes, "
            "which cannot be told from >= 1.5x; 1.41x would have been seen to miss it",
            "measure longer (--perf-block-time, --perf-budget), or ask for less"),
    ],
)  # fmt: skip
def test_what_is_said_of_a_speedup(speedup, status, sentence, remedy):
    blocks = tuple(block(candidate=1.0, original=speedup) for _ in range(3))
    found = judge(limit("speedup", ">=1.5"), evidence(blocks=blocks), NOTHING)
    assert said(found) == (status, sentence, remedy)
    assert (found.measured, found.expected, found.change) == (pytest.approx(speedup), 1.5, None)
    assert found.low < speedup < found.high


def test_what_is_given_up_says_so_and_its_remedy_names_no_budget():
    at_the_bound = tuple(block(candidate=1.0, original=1.5) for _ in range(6))
    bound = judge(limit("speedup", ">=1.5"), evidence(blocks=at_the_bound), NOTHING)
    at_the_limit = evidence(blocks=beside_yardstick(*[1.05] * 6))
    tolerance = judge(limit("latency", "5%"), at_the_limit, stored(times=(0.0,) * 20))
    for found, otherwise in ((bound, "or ask for less"), (tolerance, "tolerate more, or run on a quieter machine")):
        assert (found.status, found.futile, found.is_open) == (Status.INCONCLUSIVE, True, False)
        assert found.sentence.endswith(", and more blocks would hardly tell")
        assert found.remedy == f"measure longer (--perf-block-time), {otherwise}"


@pytest.mark.parametrize(
    ("name", "text", "status", "sentence"),
    [
        ("latency", "<=2 ms", Status.PASS, "latency is 1 ms (782.2 us to 1.151 ms) in raw time on this machine, "
            "which meets <= 2 ms"),
        ("latency", "<=0.5 ms", Status.REGRESSED, "latency is 1 ms (782.2 us to 1.151 ms) in raw time on this machine, "
            "which misses <= 500 us"),
        ("latency", "<=1.1 ms", Status.INCONCLUSIVE, "latency is 1 ms (782.2 us to 1.151 ms) in raw time on this "
            "machine, which cannot be told from <= 1.1 ms; 1.505 ms would have been seen to miss it"),
        ("throughput", ">=2000", Status.PASS, "throughput is 4,000/s (3,475/s to 5,114/s) in raw time on this machine, "
            "which meets >= 2,000/s"),
        ("throughput", ">=9000", Status.REGRESSED, "throughput is 4,000/s (3,475/s to 5,114/s) in raw time on this "
            "machine, which misses >= 9,000/s"),
        ("throughput", ">=4100", Status.INCONCLUSIVE, "throughput is 4,000/s (3,475/s to 5,114/s) in raw time on this "
            "machine, which cannot be told from >= 4,100/s; 2,997/s would have been seen to miss it"),
    ],
)  # fmt: skip
def test_what_is_said_of_raw_time(name, text, status, sentence):
    """1 ms for a batch of 4, three blocks."""
    found = judge(limit(name, text), evidence(blocks=tuple(block(candidate=1.0) for _ in range(3))), NOTHING)
    assert (found.status, found.sentence) == (status, sentence)
    assert (found.measured, found.change) == (pytest.approx({"latency": 1e-3, "throughput": 4000}[name]), None)
    assert found.expected == limit(name, text).value


def test_bounds_spend_what_the_session_allows():
    strict = Budget(Errors(alpha=1e-9))
    for name, text in (("speedup", ">=1.5"), ("latency", "<=0.5 ms")):
        blocks = tuple(block(candidate=1.0, original=1.2) for _ in range(3))
        assert judge(limit(name, text), evidence(blocks=blocks), NOTHING).status is Status.REGRESSED
        assert judge(limit(name, text), evidence(blocks=blocks), NOTHING, strict).status is Status.INCONCLUSIVE
        many = evidence(blocks=tuple(block(candidate=0.1, original=1.2) for _ in range(12)))
        assert judge(limit(name, text), many, NOTHING).status is Status.PASS


def test_a_bound_that_is_far_surpassed_is_met_and_not_an_improvement():
    blocks = tuple(block(candidate=1.0, original=50.0) for _ in range(3))
    assert judge(limit("speedup", ">=1.5"), evidence(blocks=blocks), NOTHING).status is Status.PASS


@pytest.mark.parametrize(
    ("seconds", "looks"),
    [((), 8), ((0.0,), 8), ((3.0,), 8), ((12.0,), 7), ((25.0,), 4), ((70.0,), 2), ((70.0,) * 3, 3)],
)
def test_as_many_looks_are_planned_as_the_budget_has_room_for(seconds, looks):
    """60 s; one block is taken before they begin, and one more when they have ended."""
    blocks = [replace(block(candidate=1.0), seconds=one) for one in seconds]
    assert Budget(seconds=60).errors_over(blocks).looks == looks


def test_without_a_budget_all_looks_are_planned():
    assert Budget().errors_over([replace(block(candidate=1.0), seconds=1e9)]).looks == 8
    assert Budget().errors_over([block(candidate=1.0)] * 12).looks == 12
