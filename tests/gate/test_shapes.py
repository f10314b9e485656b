"""Metrics that no judge has heard of are judged by the shape of their data, as those that we come with."""

from dataclasses import replace

import msgspec
import pytest

from perfsuite.gate.baseline import Baseline, Budget
from perfsuite.gate.judge import judge
from perfsuite.gate.sampled import can_be_judged, precision_needed, was_counted
from perfsuite.metric import ELAPSED, Against, Counted, Direction, Exact, Sampled, Scores
from perfsuite.spec import BASE, CANDIDATE, YARDSTICK, Status
from perfsuite.stats.decision import Spread
from tests.gate import shapes
from tests.gate.evidence import ELSEWHERE, HERE
from tests.gate.shapes import ALL, OWN, beside_main, bound, evidence, limit, recorded

TOLERATED = {name: metric for name, metric in ALL.items() if metric.against is Against.BASELINE}
EXPECTED = {"stored": recorded, "beside a base": lambda metric: beside_main()}


@pytest.mark.parametrize("expected", EXPECTED.values(), ids=EXPECTED)
@pytest.mark.parametrize("name", TOLERATED)
def test_every_metric_is_judged_against_what_was_expected(name, expected):
    baseline = expected(ALL[name])
    other = Status.REGRESSED if ALL[name].better is Direction.SAME else Status.IMPROVED
    for factor, status in ((1, Status.PASS), (1.6, Status.REGRESSED), (1 / 1.6, other)):
        found = judge(limit(name), evidence(ALL[name], factor), baseline)
        assert (found.status, found.metric) == (status, name), found.sentence
        assert found.sentence.startswith(f"{name} ")


@pytest.mark.parametrize("name", ALL)
def test_every_metric_is_judged_by_a_bound_with_nothing_expected(name):
    metric, nothing = ALL[name], Baseline(None, HERE)
    same, worse = (judge(bound(metric, 1), evidence(metric, factor), nothing).measured for factor in (1, 1.6))
    between = bound(metric, (same + worse) / 2)
    assert judge(between, evidence(metric), nothing).status is Status.PASS
    assert judge(between, evidence(metric, 1.6), nothing).status is Status.REGRESSED


@pytest.mark.parametrize("name", TOLERATED)
def test_what_was_never_recorded_is_never_green(name):
    assert judge(limit(name), evidence(ALL[name]), Baseline(None, HERE)).status is Status.NO_BASELINE


@pytest.mark.parametrize("expected", EXPECTED.values(), ids=EXPECTED)
def test_energy_is_judged_on_energy_and_not_on_time(expected):
    metric = ALL["energy"]
    slower = evidence(metric, elapsed=3.0)
    assert judge(limit("energy"), slower, expected(metric)).status is Status.PASS
    hungrier = judge(limit("energy"), evidence(metric, 1.6, elapsed=0.3), expected(metric))
    assert hungrier.status is Status.REGRESSED
    assert (hungrier.expected, hungrier.measured) == pytest.approx((2.0, 3.2), rel=0.01)


def test_what_is_said_of_energy():
    metric = ALL["energy"]
    said = judge(limit("energy"), evidence(metric, 1.6), recorded(metric)).sentence
    assert said.startswith("energy changed by +60.0% (")
    assert said.endswith(" relative to the yardstick over 4 fresh block(s): worse than the tolerated 20%")
    said = judge(bound(metric, 3.0), evidence(metric), Baseline(None, HERE)).sentence
    assert said.startswith("energy is 2 J (")
    assert said.endswith(" J) on this machine, which meets <= 3 J")  # not: in raw time


def test_a_rate_is_of_the_examples_of_a_call():
    """Batches of 4 at 2 J."""
    metric = ALL["examples_per_joule"]
    found = judge(limit("examples_per_joule"), evidence(metric, 1.6), recorded(metric))
    assert (found.expected, found.measured, found.change) == pytest.approx((2.0, 2 / 1.6, 1 / 1.6), rel=0.01)


def test_a_tolerance_as_an_amount_is_of_what_was_expected():
    """0.5 J of 2 J are a quarter; of hits, which may only fall, all of them are more than can be lost."""
    for text, status in (("0.5 J", Status.PASS), ("100 mJ", Status.REGRESSED)):
        assert judge(limit("energy", text), evidence(ALL["energy"], 1.15), recorded(ALL["energy"])).status is status
    for text, status in (("1", Status.PASS), ("2", Status.PASS), ("0.1", Status.REGRESSED)):
        assert judge(limit("hits", text), evidence(ALL["hits"], 1.25), recorded(ALL["hits"])).status is status


def test_an_amount_of_all_that_was_expected_tolerates_that_hardly_anything_is_left():
    left = counting(evidence(ALL["hits"]), "hits", {CANDIDATE: 0.001, BASE: 2.0})
    for text, status in (("1.9", Status.REGRESSED), ("2", Status.PASS)):
        assert judge(limit("hits", text), left, beside_main()).status is status


def test_an_automatic_tolerance_is_for_whatever_is_sampled():
    for name, ends in (("energy", "auto (1.3%)"), ("examples_per_joule", "auto (1.3%)")):
        found = judge(limit(name, "auto"), evidence(ALL[name]), beside_main())
        assert (found.status, found.limit) == (Status.PASS, ends)


@pytest.mark.parametrize(
    ("name", "value"), [("energy_ratio", 1.6), ("energy_saved", 1 / 1.6), ("hits_ratio", 1 / 1.6), ("speedup", 1 / 1.6)]
)
def test_what_is_sampled_beside_the_original_is_a_ratio_to_it(name, value):
    found = judge(bound(ALL[name], 1.0), evidence(ALL[name], 1.6), Baseline(None, HERE))
    assert found.measured == pytest.approx(value, rel=0.01)
    assert found.low < value < found.high


@pytest.mark.parametrize(("name", "value"), [("energy", 3.2), ("examples_per_joule", 2 / 1.6), ("hits", 2 / 1.6)])
def test_what_is_sampled_by_itself_is_in_the_unit_of_its_metric(name, value):
    found = judge(bound(ALL[name], 1.0), evidence(ALL[name], 1.6), Baseline(None, HERE))
    assert found.measured == pytest.approx(value, rel=0.01)


def test_what_a_suite_has_shown_of_a_quantity_is_for_that_quantity():
    shown = {quantity: Budget(spreads={(True, quantity): Spread(0.002, 10)}) for quantity in ("energy", ELAPSED)}
    for name, quantity, text in (
        ("energy", "energy", "auto (0.5%)"), ("energy", ELAPSED, "auto (1.3%)"),
        ("latency", ELAPSED, "auto (0.5%)"), ("latency", "energy", "auto (1.3%)"),
    ):  # fmt: skip
        assert judge(limit(name, "auto"), evidence(ALL[name]), beside_main(), shown[quantity]).limit == text


def chunks_with(found, change):
    """The evidence with the amount of every candidate's third chunk changed."""

    def changed(block):
        mine = [index for index, chunk in enumerate(block.chunks) if chunk.arm == CANDIDATE]
        chunks = list(block.chunks)
        chunks[mine[2]] = replace(chunks[mine[2]], counted=change(chunks[mine[2]].counted))
        return replace(block, chunks=tuple(chunks))

    blocks = tuple(map(changed, found.blocks))
    return replace(found, blocks=blocks, beside_base=blocks)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda counted: {"energy": 0.0}, "its counter did not grow in 4 of 64 chunks of calls (candidate)"),
        (lambda counted: {"energy": -1.0}, "its counter did not grow in 4 of 64 chunks of calls (candidate)"),
        (lambda counted: {}, "its counter was not read"),
    ],
)
def test_a_counter_that_stands_still_or_falls_measures_nothing(change, why):
    still = chunks_with(evidence(ALL["energy"]), change)
    for asked, baseline in (
        (limit("energy"), recorded(ALL["energy"])), (limit("energy"), beside_main()),
        (bound(ALL["energy"], 3.0), Baseline(None, HERE)),
    ):  # fmt: skip
        found = judge(asked, still, baseline)
        assert found.status is Status.NOT_MEASURED
        assert found.sentence.startswith("energy was not measured: its counter ")
    assert judge(limit("energy"), still, beside_main()).sentence == f"energy was not measured: {why}"
    assert judge(limit("latency"), still, beside_main()).status is Status.PASS


def counting(found, quantity, amounts):
    """The evidence with these amounts of a quantity in every chunk of these arms."""
    blocks = tuple(
        replace(block, chunks=tuple(
            replace(chunk, counted={quantity: amounts[chunk.arm]}) if chunk.arm in amounts else chunk
            for chunk in block.chunks
        ))
        for block in found.blocks
    )  # fmt: skip
    return replace(found, blocks=blocks, beside_base=blocks)


def test_all_arms_whose_counters_stand_still_are_named():
    still = counting(evidence(ALL["energy"]), "energy", {CANDIDATE: 0.0, BASE: 0.0})
    assert judge(limit("energy"), still, beside_main()).sentence == (
        "energy was not measured: its counter did not grow in 64 of 64 chunks of calls (base, candidate)"
    )


def test_a_limit_was_counted_where_every_arm_that_it_needs_was():
    """A tolerance of what is stored needs the yardstick; a bound does not."""
    found = evidence(ALL["energy"])
    idle = counting(found, "energy", {YARDSTICK: 0.0})
    assert was_counted(limit("energy"), found.blocks)
    assert not was_counted(limit("energy"), idle.blocks)
    assert was_counted(bound(ALL["energy"], 3.0), idle.blocks)


def test_an_arm_that_is_not_asked_about_may_stand_still():
    found = counting(evidence(ALL["energy"]), "energy", {YARDSTICK: 0.0})
    assert judge(limit("energy"), found, beside_main()).status is Status.PASS
    assert judge(bound(ALL["energy"], 3.0), found, Baseline(None, HERE)).status is Status.PASS
    assert judge(limit("energy"), found, recorded(ALL["energy"])).status is Status.NOT_MEASURED


def test_a_counter_that_could_not_be_opened_says_why():
    found = evidence(ALL["energy"])
    blocks = tuple(replace(block, uncounted={"energy": "only root may read it"}) for block in found.blocks)
    said = judge(limit("energy"), replace(found, blocks=blocks), recorded(ALL["energy"]))
    assert (said.status, said.sentence) == (Status.NOT_MEASURED, "energy was not measured: only root may read it")


def test_samples_of_another_machine_class_or_yardstick_are_incomparable():
    metric, found = ALL["energy"], evidence(ALL["energy"])
    elsewhere = replace(recorded(metric), here=ELSEWHERE)
    assert judge(limit("energy"), found, elsewhere).status is Status.INCOMPARABLE
    assert not can_be_judged(limit("energy"), elsewhere)
    assert can_be_judged(limit("energy"), recorded(metric))
    assert not can_be_judged(limit("energy"), recorded(ALL["latency"]))
    assert judge(limit("energy"), replace(found, yardstick="y-2"), recorded(metric)).status is Status.INCOMPARABLE


def test_blocks_end_early_only_where_time_alone_is_judged():
    assert precision_needed([limit("latency", "5%")]) > 0
    assert precision_needed([limit("latency", "5%"), limit("energy", "5%")]) == 0
    assert precision_needed([limit("energy", "5%")]) == 0


def test_a_base_beside_itself_must_not_show_the_same():
    found = evidence(ALL["energy"], 1.6)
    contaminated = replace(found, control=found.beside_base)
    assert judge(limit("energy"), contaminated, beside_main()).status is Status.INCONCLUSIVE
    sound = replace(found, control=evidence(ALL["energy"]).beside_base)
    assert judge(limit("energy"), sound, beside_main()).status is Status.REGRESSED


def scored(name, *values):
    """Evidence of a metric with these values by example."""
    found = evidence(ALL[name])
    facts = replace(found.facts[CANDIDATE], per_example={name: Scores("t", "e", values)})
    return replace(found, facts={**found.facts, CANDIDATE: facts})


def of_base(found, name, *values):
    facts = replace(found.facts[BASE], per_example={name: Scores("t", "e", values)})
    return replace(found, facts={**found.facts, BASE: facts})


@pytest.mark.parametrize(
    ("name", "before", "after", "status", "sentence"),
    [
        ("error", (1.0, 2.0, 3.0), (3.0, 2.5, 2.6), Status.INCONCLUSIVE,
            "error changed by +0.7: 2 examples worse and 1 better of 3, beyond the tolerated 20%, but such differences "
            "can be chance (p = 0.21); +2.044 would have been seen"),
        ("error", (1.0,) * 5, (1.5,) * 5, Status.REGRESSED,
            "error changed by +0.5: 5 examples worse and 0 better of 5, beyond the tolerated 20%"),
        ("error", (1.0,) * 4, (1.5,) * 4, Status.INCONCLUSIVE,
            "error changed by +0.5: 4 examples worse and 0 better of 4, beyond the tolerated 20%, but such differences "
            "can be chance (p = 0.06)"),
        ("error", (1.0,) * 5, (0.5,) * 5, Status.IMPROVED,
            "error changed by -0.5: 0 examples worse and 5 better of 5, better than main"),
        ("error", (True,) * 5, (1.5,) * 5, Status.REGRESSED,  # flags that became numbers count as 0 and 1
            "error changed by +0.5: 5 examples worse and 0 better of 5, beyond the tolerated 20%"),
        ("overlap", (1.0,) * 5, (0.5,) * 5, Status.REGRESSED,
            "overlap changed by -0.5x: 5 examples worse and 0 better of 5, beyond the tolerated 20%"),
        ("overlap", (1.0,) * 5, (0.85,) * 5, Status.PASS,
            "overlap changed by -0.15x: 5 examples worse and 0 better of 5, within the tolerance"),
        ("mistakes", (False,) * 9, (True,) * 6 + (False,) * 3, Status.REGRESSED,
            "mistakes changed by +66.7pp: 6 examples lost and 0 won of 9, beyond the tolerated 1pp"),
        ("mistakes", (False,) * 9, (False,) * 9, Status.PASS,
            "mistakes changed by +0pp: 0 examples lost and 0 won of 9, within the tolerance"),
    ],
)  # fmt: skip
def test_what_is_said_of_values_by_example(name, before, after, status, sentence):
    found = judge(limit(name), of_base(scored(name, *after), name, *before), beside_main())
    assert (found.status, found.sentence) == (status, sentence)


def test_the_worst_examples_come_first():
    found = of_base(scored("error", 1.0, 9.0, 3.0, 1.5), "error", 1.0, 2.0, 1.0, 2.0)
    assert judge(limit("error"), found, beside_main()).details == ("examples worse: 1, 2", "examples better: 3")


def test_other_or_fewer_examples_cannot_be_paired():
    few = of_base(scored("error", 1.0, 2.0), "error", 1.0, 2.0, 3.0)
    assert judge(limit("error"), few, beside_main()).status is Status.INCOMPARABLE


def test_counts_that_are_better_when_higher_regress_when_some_are_gone():
    found = judge(limit("fused", "0%"), evidence(ALL["fused"], 1.6), recorded(ALL["fused"]))
    assert found.sentence.startswith("fused has 0 calls added and 38 gone, of 120 accepted")
    assert found.details == ("fused: -38 b",)


def test_where_only_the_sum_was_recorded_the_sums_are_compared():
    stored = recorded(ALL["layers"])
    sums = replace(stored, entry=msgspec.structs.replace(
        stored.entry, exact=msgspec.structs.replace(stored.entry.exact, counts={})
    ))  # fmt: skip
    assert judge(limit("layers"), evidence(ALL["layers"]), sums).status is Status.PASS
    assert judge(limit("layers"), evidence(ALL["layers"], 1.6), sums).status is Status.REGRESSED


def test_what_is_not_counted_by_operators_needs_no_equal_torch():
    """Only what is seen at dispatch depends on it."""
    for name in ("layers", "biases"):
        other = replace(evidence(ALL[name]), context=replace(evidence(ALL[name]).context, torch="1.0"))
        assert judge(limit(name), other, recorded(ALL[name])).status is Status.PASS
    other = replace(evidence(ALL["flops"]), context=replace(evidence(ALL["flops"]).context, torch="1.0"))
    assert judge(limit("flops"), other, recorded(ALL["flops"])).status is Status.INCOMPARABLE


def test_every_shape_is_among_those_that_are_tried():
    assert {type(metric.probe) for metric in OWN} == {type(metric.probe) for metric in ALL.values()}
    assert {Counted, Exact, Sampled} <= {type(metric.probe) for metric in OWN}
    assert shapes.value(ALL["energy"], 2) == 2
