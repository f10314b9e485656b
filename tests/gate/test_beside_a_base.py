"""What is said of times beside a base revision. Noise-free blocks, so that every number follows from the priors."""

import math
from dataclasses import replace

import msgspec
import pytest

from perfsuite.gate.automatic import tolerance
from perfsuite.gate.baseline import BaseRevision, Budget
from perfsuite.gate.beside import PAIRS_PRIOR, TWINS_PRIOR
from perfsuite.gate.judge import judge, judge_all
from perfsuite.metric import ELAPSED
from perfsuite.spec import BASE, CANDIDATE, BesideBase, Facts, Status
from perfsuite.stats.blocks import block_effect
from perfsuite.stats.decision import Spread
from perfsuite.stats.sequential import Errors
from tests.gate.evidence import CONTEXT, EXACT, OPERATORS, evidence, limit, stored
from tests.gate.steady import beside, block

MAIN = BaseRevision("main (abc123)")
PLENTY = Budget()
SAY_SO = "if this is intended, say so in the change and tolerate it there; accepted baselines are not touched"
LONGER = "measure longer (--perf-block-time, --perf-budget), tolerate more, or run on a quieter machine"


def verdict(*ratios, name="latency", text="5%", base=MAIN, found=None, budget=PLENTY, **how):
    return judge(
        limit(name, text), beside_main(found or evidence(beside_base=beside(*ratios)), **how), on(base), budget
    )


def spread(sd, df, twins=True):
    """What the suite has shown of times so far."""
    return Budget(spreads={(twins, ELAPSED): Spread(sd, df)})


def on(base):
    return replace(stored(), base=base)


def beside_main(found, of_base=EXACT, operators=OPERATORS, **how):
    """The evidence with what the base has shown of itself."""
    how = {"context": CONTEXT, **how}
    facts = {**found.facts, BASE: Facts(of_base, {"operators": operators}, {})}
    return replace(found, facts=facts if of_base else found.facts, base=BesideBase(**how))


@pytest.mark.parametrize(
    ("name", "ratios", "status", "sentence", "remedy"),
    [
        ("latency", (1.0,), Status.PASS,
            "latency changed by +0.0% (-4.0% to +1.9%) beside main (abc123), as twins in 1 fresh process: within 5%",
            ""),
        ("latency", (1.1, 1.1), Status.REGRESSED,
            "latency changed by +10.0% (+7.7% to +11.1%) beside main (abc123), as twins in 2 fresh processes: "
            "worse than the tolerated 5%", SAY_SO),
        ("latency", (0.9, 0.9), Status.IMPROVED,
            "latency changed by -10.0% (-11.8% to -9.1%) beside main (abc123), as twins in 2 fresh processes: "
            "better than main (abc123)", ""),
        ("latency", (1.05, 1.06), Status.INCONCLUSIVE,
            "latency changed by +5.5% (+2.9% to +6.8%) beside main (abc123), as twins in 2 fresh processes: "
            "too uncertain to judge 5%; an effect of +8.3% would have been seen", LONGER),
        ("throughput", (1.1, 1.1), Status.REGRESSED,
            "throughput changed by -9.1% (-10.0% to -7.2%) beside main (abc123), as twins in 2 fresh processes: "
            "worse than the tolerated 5%", SAY_SO),
        ("throughput", (1.05, 1.06), Status.INCONCLUSIVE,
            "throughput changed by -5.2% (-6.4% to -2.8%) beside main (abc123), as twins in 2 fresh processes: "
            "too uncertain to judge 5%; an effect of -7.9% would have been seen", LONGER),
    ],
)  # fmt: skip
def test_what_is_said_of_twins(name, ratios, status, sentence, remedy):
    found = verdict(*ratios, name=name)
    assert (found.status, found.sentence, found.remedy) == (status, sentence, remedy)


def test_what_is_given_up_says_so_and_its_remedy_names_no_budget():
    found = verdict(*[1.05] * 6)
    assert (found.status, found.futile) == (Status.INCONCLUSIVE, True)
    assert found.sentence.endswith("would have been seen, and more blocks would hardly tell")
    assert found.remedy == "measure longer (--perf-block-time), tolerate more, or run on a quieter machine"


def test_the_numbers_of_a_verdict_are_in_the_unit_of_its_metric():
    slower, fewer = verdict(1.1, 1.1), verdict(1.1, 1.1, name="throughput")
    assert (slower.measured, slower.expected, slower.change) == pytest.approx((2.2e-3, 2e-3, 1.1))
    assert (fewer.measured, fewer.expected, fewer.change) == pytest.approx((2000 / 1.1, 2000, 1 / 1.1))  # batches of 4
    assert (slower.low, slower.high) == pytest.approx((1 / fewer.high, 1 / fewer.low))
    assert slower.low < 1.1 < slower.high


def test_the_time_of_the_base_is_its_median_call():
    found = evidence(beside_base=tuple(beside(1.1, base_ms=ms)[0] for ms in (9.0, 1.0, 2.0, 2.5, 8.0)))
    assert verdict(found=found).expected == pytest.approx(2.5e-3, rel=1e-12)


def test_a_tolerance_in_seconds_is_of_the_time_of_the_base():
    """2 ms and 6% more: 0.2 ms is a tenth."""
    assert verdict(1.06, 1.06, text="0.2 ms").status is Status.PASS
    assert verdict(1.06, 1.06, text="0.02 ms").status is Status.REGRESSED


@pytest.mark.parametrize(
    ("known", "text"),
    [
        ({}, "auto (1.2%)"),
        ({"twins": False}, "auto (5.1%)"),
        ({"budget": spread(0.002, 10)}, "auto (0.4%)"),
        ({"budget": Budget(Errors(beta=0.4))}, "auto (0.7%)"),
        ({"budget": Budget(spreads={(False, ELAPSED): Spread(0.002, 10)})}, "auto (1.2%)"),
        ({"budget": Budget(spreads={(True, "energy"): Spread(0.002, 10)})}, "auto (1.2%)"),
    ],
)
def test_an_automatic_tolerance_follows_from_what_is_known_before(known, text):
    assert verdict(1.0, 1.0, text="auto", **known).limit == text


def test_pairs_of_processes_are_expected_to_differ_by_more_than_twins():
    twins, pairs = verdict(1.06, 1.06, 1.06), verdict(1.06, 1.06, 1.06, twins=False)
    assert pairs.low < twins.low
    assert ", in pairs of 3 fresh processes: " in pairs.sentence
    as_twins = Budget(spreads={(False, ELAPSED): TWINS_PRIOR})
    assert verdict(1.06, 1.06, twins=False, budget=as_twins).low == verdict(1.06, 1.06).low
    as_pairs = Budget(spreads={(True, ELAPSED): PAIRS_PRIOR})
    assert verdict(1.06, 1.06, budget=as_pairs).low == verdict(1.06, 1.06, twins=False).low


def test_what_the_suite_has_shown_and_what_the_session_allows_decide():
    assert verdict(1.1, 1.1, budget=spread(0.2, 8)).status is Status.INCONCLUSIVE
    assert verdict(1.1, 1.1, budget=Budget(Errors(alpha=1e-9))).status is Status.INCONCLUSIVE
    assert verdict(*[1.0] * 12).status is Status.PASS  # more blocks than looks were planned


def test_a_regression_must_stand_out_of_what_the_base_shows_beside_itself():
    def status(*controls):
        return verdict(found=evidence(beside_base=beside(1.1, 1.1), control=beside(*controls))).status

    assert status(1.0, 1.0) is Status.REGRESSED
    assert status(1.04, 1.05) is Status.REGRESSED
    assert status(1.04, 1.06) is Status.INCONCLUSIVE
    assert status(1 / 1.04, 1 / 1.06) is Status.INCONCLUSIVE  # to either side
    assert status(1.1, 1 / 1.1) is Status.REGRESSED  # only what all of them show
    same = evidence(beside_base=beside(1.1, 1.1), control=beside(1.1))
    assert verdict(text="0%", found=same).status is Status.INCONCLUSIVE


def test_a_control_that_swallows_the_effect_exactly_leaves_nothing():
    effect, tolerance = math.log(1.1), math.log1p(0.05)
    just = math.exp(effect - tolerance)
    for control, expected in ((just * 1.0001, Status.INCONCLUSIVE), (just * 0.9999, Status.REGRESSED)):
        found = evidence(beside_base=beside(1.1, 1.1), control=beside(control))
        assert verdict(found=found).status is expected


def test_what_is_said_of_a_contaminated_session():
    found = verdict(found=evidence(beside_base=beside(1.1, 1.1), control=beside(0.94, 0.955)))
    assert found.sentence == (
        "latency looked changed by +10.0%, but the base beside itself differed by +5.5% in this session: "
        "neither can be trusted"
    )
    assert found.remedy == "run it again on a quieter machine"
    within = evidence(beside_base=beside(1.0, 1.0), control=beside(1.3, 1.3))
    assert verdict(found=within).status is Status.PASS  # what does not fail needs no control


def test_a_change_says_what_else_changed_and_where_the_time_went():
    profiles = {BASE: {"aten::mm": 1500.0}, CANDIDATE: {"aten::mm": 1500.0, "aten::copy_": 200.0}}
    facts = {"beside_base": beside(1.1, 1.1), "profiles": profiles}
    slower = verdict(found=evidence(None, {**OPERATORS, "aten::copy_": 4}, **facts))
    assert slower.details == ("operators: +4 aten::copy_", "own time of aten::copy_: 0 ns -> 200 us")
    same = evidence(None, {**OPERATORS, "aten::copy_": 4}, beside_base=beside(1.0, 1.0), profiles=profiles)
    assert verdict(found=same).details == ()
    unknown = verdict(found=evidence(**facts), of_base=None, context=None)
    assert unknown.details == ("own time of aten::copy_: 0 ns -> 200 us",)


def test_what_was_not_sampled_says_why():
    found = verdict(found=evidence(not_timed="under xdist", not_timed_remedy="without -n"))
    assert (found.status, found.sentence, found.remedy) == (
        Status.NOT_MEASURED, "latency was not measured: under xdist", "without -n",
    )  # fmt: skip
    assert verdict(found=evidence()).sentence == "latency was not measured: there is no block of samples"


def test_without_a_base_to_compare_with_tolerances_are_not_measured_and_bounds_are():
    for name, text in (("latency", "5%"), ("size", "0%"), ("accuracy", "1pp")):
        found = verdict(
            name=name, text=text, missing="it is new since main", found=evidence(beside_base=beside(1.0, 1.0))
        )
        assert found.status is Status.NOT_MEASURED
        assert found.sentence == f"{name} has nothing to compare with: it is new since main"
        assert found.remedy == "without --perf-base stored baselines judge it"
    assert verdict(name="size", text="<=2 kB", missing="it is new since main", found=evidence()).status is Status.PASS


def test_only_tolerances_concern_the_base():
    assert [limit(*pair).is_tolerance for pair in (
        ("latency", "5%"), ("latency", "auto"), ("size", "1 kB"), ("latency", "<=1 ms"), ("speedup", ">=2"),
    )] == [True, True, True, False, False]  # fmt: skip


def test_exact_metrics_name_the_base_that_they_were_measured_of():
    found = verdict(name="size", text="0%", found=evidence({"size_bytes": 1500}))
    assert found.sentence == ("size is 1.5 kB, main (abc123) was 1 kB (+50.0%): worse by more than the tolerated 0 B")
    assert found.remedy == SAY_SO
    assert verdict(name="size", text="0%", found=evidence()).sentence == (
        "size is 1 kB, as main (abc123): within the tolerance"
    )


def test_calls_added_and_gone_are_of_those_in_the_base():
    found = verdict(name="operators", text="0%", found=evidence(None, {**OPERATORS, "aten::mm": 1}))
    assert found.sentence == (
        "operators has 1 calls added and 0 gone, of 14 in main (abc123): worse by more than the tolerated 0"
    )


def test_a_bound_is_judged_by_itself_whatever_the_base_took():
    found = verdict(text="<=2 ms", found=evidence(blocks=(block(candidate=1.0),) * 3, beside_base=beside(9.0, 9.0)))
    assert found.status is Status.PASS
    assert found.sentence.endswith(" in raw time on this machine, which meets <= 2 ms")


def test_all_limits_of_a_gate_are_judged_by_what_the_suite_has_shown():
    slower = evidence(beside_base=beside(1.1, 1.1))
    for known, status in ((PLENTY, Status.REGRESSED), (spread(0.2, 8), Status.INCONCLUSIVE)):
        assert [one.status for one in judge_all([limit("latency", "5%")], slower, on(MAIN), known)] == [status]


def test_all_limits_of_a_gate_are_judged_in_their_order():
    limits = [limit("size", "0%"), limit("latency", "5%"), limit("flops", "0%")]
    found = judge_all(limits, evidence(beside_base=beside(1.0, 1.0)), on(MAIN), PLENTY)
    assert [one.metric for one in found] == ["size", "latency", "flops"]
    assert [one.limit for one in found] == ["0%", "5%", "0%"]
    assert all(one.case == "m/fp32/cpu/b4" for one in found)


def test_what_was_accepted_and_has_no_noise_stands_without_its_commit():
    """Where the commit is unknown, nothing can be timed beside it; sizes are stored all the same."""
    gone = {"base": BaseRevision("accepted", accepted=True), "missing": "no commit could be told", "of_base": None}
    assert verdict(name="size", text="0%", **gone).status is Status.PASS
    grown = verdict(name="size", text="0%", **gone, found=evidence({"size_bytes": 1001}))
    assert (grown.status, "accepted was 1 kB" in grown.sentence or "accepted was 1,000" in grown.sentence) == (
        Status.REGRESSED, True,
    )  # fmt: skip
    timed = verdict(1.0, **gone)
    assert timed.status is Status.NOT_MEASURED
    assert timed.sentence == "latency has nothing to compare with: no commit could be told"
    foreign = gone | {"base": BaseRevision("accepted")}
    assert verdict(name="size", text="0%", **foreign).status is Status.NOT_MEASURED


def test_a_baseline_of_another_case_matters_where_it_judges():
    """A base that was measured speaks for itself; where its baseline was accepted, that judges what has no noise."""
    another = replace(stored(), another=("n",), entry=msgspec.structs.replace(stored().entry, of={"n": "1"}))
    found = beside_main(evidence(beside_base=beside(1.0, 1.0)))
    for accepted, size in ((False, Status.PASS), (True, Status.INCOMPARABLE)):
        baseline = replace(another, base=BaseRevision("main", accepted=accepted))
        assert judge(limit("size", "0%"), found, baseline).status is size
        assert judge(limit("latency", "5%"), found, baseline).status is Status.PASS
    assert judge(limit("size", "0%"), found, another).status is Status.INCOMPARABLE


def test_an_automatic_tolerance_follows_from_the_noise_of_the_first_block_whatever_the_others_are():
    """Else it would widen with the number of looks."""
    calm, wild = beside(1.0)[0], noisy(0.05)
    own = block_effect(wild, CANDIDATE, BASE).se
    assert own > 0.005
    for blocks, wanted in (((calm, wild), tolerance(TWINS_PRIOR, Errors())),
                           ((wild, calm), tolerance(TWINS_PRIOR, Errors(), own=own))):  # fmt: skip
        found = verdict(found=evidence(beside_base=blocks), text="auto")
        assert found.limit == f"auto ({wanted:.1%})"


def noisy(share):
    """A block whose candidate takes so much more and less in turn."""
    calm = beside(1.0)[0]
    chunks = [
        replace(chunk, calls_ns=tuple(ns * (1 + share * (-1) ** number) for ns in chunk.calls_ns))
        if chunk.arm == CANDIDATE else chunk
        for number, chunk in enumerate(calm.chunks)
    ]  # fmt: skip
    return replace(calm, chunks=tuple(chunks))
