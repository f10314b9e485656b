import math
import random

import pytest
from power import conditions, ours, rates, record, replay, report, rules, samples
from scipy.stats import binomtest

from perfsuite.measure.latency import Plan
from perfsuite.spec import Chunk
from perfsuite.stats.blocks import block_effect
from perfsuite.stats.decision import Outcome

from .records import TESTS, asv_run, sessions, twins


@pytest.mark.parametrize(("ratio", "alarm"), [(1.0, False), (1.0499, False), (1.0501, True), (0.5, False)])
def test_pytest_benchmark_alarms_if_and_only_if_the_mean_is_beyond_five_percent(ratio, alarm):
    unit = sessions({"a": ratio, "b": 1.0})
    assert rules.pytest_benchmark(unit, "mean", 5) == {"a": alarm, "b": False}
    assert rules.pytest_benchmark(sessions({"a": ratio}, field="median"), "mean", 5) == {"a": False}


def test_a_scaled_candidate_alarms_as_a_slower_one_does():
    assert rules.pytest_benchmark(sessions({"a": 1.0}), "mean", 5, scale=1.06) == {"a": True}
    assert rules.pytest_benchmark(sessions({"a": 0.98}), "mean", 5, scale=1.06) == {"a": False}


@pytest.mark.parametrize("number", [1, 30, 100, 250])
def test_the_tuned_threshold_is_the_smallest_with_one_percent_of_session_alarms(number):
    rng = random.Random(number)
    units = [sessions({test: math.exp(rng.gauss(0, 0.1)) for test in TESTS}, n, field="median") for n in range(number)]
    percent = rules.tuned_percent(units, "median")

    def share(percent):
        return sum(any(rules.pytest_benchmark(unit, "median", percent).values()) for unit in units) / number

    assert share(percent) <= 0.01
    assert share(percent - 1e-6) > 0.01


def test_asv_needs_both_the_factor_and_a_difference():
    pytest.importorskip("asv")
    assert not any(rules.asv_continuous(asv_run(0.05)).values())  # below the factor
    assert all(rules.asv_continuous(asv_run(0.15)).values())
    assert not any(rules.asv_continuous(asv_run(-0.15)).values())
    unclear = asv_run(0.15, noise=1.0)
    assert not all(rules.asv_continuous(unclear).values())
    assert all(rules.asv_continuous(asv_run(0.0), scale=1.2).values())


@pytest.mark.parametrize(("hits", "of"), [(0, 20), (1, 20), (7, 20), (20, 20), (3, 400)])
def test_bounds_are_those_of_clopper_and_pearson(hits, of):
    expected = binomtest(hits, of).proportion_ci(method="exact")
    assert rates.Rate(hits / of, of).bounds == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_bounds_of_numbers_that_are_not_whole_lie_between_their_neighbours():
    assert rates.clopper_pearson(0, 11)[1] < rates.clopper_pearson(0, 10.5)[1] < rates.clopper_pearson(0, 10)[1]


def test_tests_of_one_session_that_go_together_count_as_one():
    together = [[True] * 6] * 5 + [[False] * 6] * 15
    assert rates.clustered(together).independent == pytest.approx(20, rel=0.1)
    rng = random.Random(0)
    apart = [[rng.random() < 0.25 for _ in range(6)] for _ in range(200)]
    assert rates.clustered(apart).independent > 800
    assert rates.clustered([[False] * 6] * 20) == rates.Rate(0.0, 20)


def workers(number, effect=0.0, **noise):
    return [ours.Worker.of(twins(n, effect, **noise), tolerance=0.01) for n in range(number)]


def test_scaling_effects_is_exactly_scaling_samples():
    unit = twins(0)
    for test, timed in unit.tests.items():
        chunks = [
            type(chunk)(chunk.arm, tuple(ns * (1.05 if chunk.arm == "candidate" else 1) for ns in chunk.calls_ns))
            for chunk in timed.block.chunks
        ]
        longer = block_effect(type(timed.block)(tuple(chunks), 0, True, 2), "candidate", "base")
        (scaled,) = ours.scaled([ours.Worker.of(unit, tolerance=0.0)], 1.05)
        assert (scaled.effects[test].value, scaled.effects[test].se) == pytest.approx((longer.value, longer.se))


def test_a_block_as_it_ships_is_the_beginning_of_the_recorded_one():
    (timed, *_) = twins(0, rounds=30, seconds=9.0).tests.values()
    assert ours.as_it_ships(timed, 1e-6) == timed  # not precise enough, ever
    early = ours.as_it_ships(timed, 10.0)
    assert early.block.chunks == timed.block.chunks[: 2 * Plan.min_rounds_to_end]
    dropped = timed.block.chunks[2 * Plan.min_rounds_to_end :]
    assert early.seconds == pytest.approx(timed.seconds - sum(map(ours.nanoseconds, dropped)) / 1e9)
    assert ours.nanoseconds(Chunk("base", (1e9, 2e9))) == pytest.approx(4.5e9)


@pytest.mark.parametrize(("tolerance", "rounds"), [(0.05, 60), (0.001, 100)])
def test_a_block_that_knows_enough_ends_as_planned_and_else_as_it_was_recorded(tolerance, rounds):
    (timed, *_) = twins(0, rounds=100, seconds=9.0, within=0.1).tests.values()
    assert len(ours.as_it_ships(timed, tolerance).block.chunks) == 2 * rounds


def test_a_session_of_ours_finds_what_is_there_and_nothing_else():
    drawn = list(ours.sessions(workers(20), 0.01, 100, seed=0))
    assert sum(session.alarm for session in drawn) <= 1
    assert {judged.outcome for session in drawn for judged in session.verdicts.values()} <= set(Outcome)
    found = list(ours.slowed(workers(20), ours.scaled(workers(20), 1.05), 0.01, 60, seed=0))
    assert [test for test, _ in found] == sorted(TESTS) * 10
    caught = [session.verdicts[test].outcome is Outcome.WORSE for test, session in found]
    assert sum(caught) >= 58
    others = [judged for test, session in found for name, judged in session.verdicts.items() if name != test]
    assert sum(judged.outcome is Outcome.WORSE for judged in others) <= 3


def test_a_session_never_uses_a_worker_twice_nor_its_own_blocks_as_control():
    for session in ours.sessions(workers(12), 0.01, 20, seed=0):
        used = [id(worker) for worker in [*session.workers, *session.controls]]
        assert len(used) == len(set(used)) == 12


def test_the_wall_time_of_a_session_is_start_ups_and_the_blocks_that_it_used():
    session = next(iter(ours.sessions(workers(12, between=1e-4, within=1e-3), 0.05, 1, seed=0)))
    blocks = [judged.blocks for judged in session.verdicts.values()]
    assert not session.alarm
    assert session.wall_s == pytest.approx(3.0 * (1 + two_at_a_time(blocks)) + sum(blocks))  # 3 s, 1 s: see records.py
    alarm = ours.Session(session.workers, session.controls, 0.05, ("small-cnn", ours.scaled(session.workers, 1.5)))
    blocks = [judged.blocks for judged in alarm.verdicts.values()]
    assert alarm.alarm
    assert alarm.wall_s == pytest.approx(3.0 * (1 + two_at_a_time(blocks) + 1) + sum(blocks) + 2)


def two_at_a_time(blocks):
    return math.ceil(max(blocks) / 2)


def test_an_effect_that_the_base_shows_beside_itself_is_no_alarm():
    contaminated = workers(2, effect=0.2)
    session = ours.Session(workers(8), contaminated, 0.01, ("small-cnn", ours.scaled(workers(8), 1.1)))
    assert session.verdicts["small-cnn"].outcome is Outcome.UNCLEAR
    session = ours.Session(workers(8), workers(2), 0.01, ("small-cnn", ours.scaled(workers(8), 1.1)))
    assert session.verdicts["small-cnn"].outcome is Outcome.WORSE


@pytest.fixture
def full(tmp_path):
    """A folder in which every arm has units."""
    folder = samples.Folder(tmp_path)
    record.begin(folder, 0, "test")
    rng = random.Random(0)
    for number in range(12):
        for where in conditions.CONDITIONS:
            folder.append("ours", twins(number, condition=where))
        folder.append("ours", twins(number, math.log(1.05), change="+5%"))
    for number in range(20):
        noisy = {test: math.exp(rng.gauss(0, 0.1)) for test in TESTS}
        for arm in ("pytest-benchmark", "pytest-benchmark-best"):
            folder.append(arm, sessions(noisy, number))
        folder.append("asv", asv_run(0.0, number))
    for number in range(5):
        folder.append("truth", twins(number, 0.12, change="fall-back"))
    return tmp_path


def test_a_report_tells_the_figures_of_the_record(full):
    found = report.Findings(replay.Record(full), draws=60)
    strict = "perfsuite, tolerance 1%"
    assert found.identical[strict, "quiet"].per_session.value <= 0.05
    assert found.identical[strict, "quiet"].per_session.independent < 12 / 2  # a session takes two workers at least
    defaults = found.identical[report.DEFAULTS, "quiet"]
    assert 0.15 < defaults.per_test.value < 0.45  # P(N(0, 0.1) > log 1.05) is 0.31
    assert defaults.per_session.independent == 20
    gate = found.gates[0]
    assert gate.injected(found.record, "quiet", "+5%").power.value > 0.9
    assert gate.scaled(found.record, "quiet", 1.05).power.value > 0.9
    assert gate.injected(found.record, "drift", "+5%") is None
    size, low, high = replay.true_sizes(found.record)["fall-back", "encoder-int8"]
    assert low < size < high
    assert size == pytest.approx(12.7, abs=1)


def test_a_report_holds_what_is_inconclusive_and_the_wall_time_of_each_tolerance_against_its_gate(full):
    found = report.Findings(replay.Record(full), draws=20)
    shown = {what: (gate, value) for what, gate, _, _, value, _ in found.figures()}
    strict = found.identical["perfsuite, tolerance 1%", "quiet"]
    assert shown["inconclusive, quiet, 1% tolerance"] == (0.10, strict.unclear)
    theirs = found.identical[report.DEFAULTS, "quiet"].wall_s
    for tolerance, gate in (("5%", 1.2), ("2%", 2.5), ("1%", 5)):
        ours = found.identical[f"perfsuite, tolerance {tolerance}", "quiet"].wall_s
        what = f"wall time to pytest-benchmark's defaults, {tolerance} tolerance, replayed"
        assert shown[what] == (gate, ours / theirs)


def whole_session(number, wall_s=25.0, statuses=(), condition="quiet", change="none"):
    found = {**dict.fromkeys(TESTS, "PASS"), **dict(statuses)}
    return samples.OurSession(
        condition=condition, change=change, number=number, seed=number, wall_s=wall_s, statuses=found
    )


def test_sessions_that_were_run_whole_are_counted_at_every_tolerance_and_tell_the_wall_time(full):
    folder = samples.Folder(full)
    for number in range(8):
        folder.append("session-5%", whole_session(number))
    folder.append("session-5%", whole_session(0, 90.0, condition="drift"))
    folder.append("session", whole_session(0, 100.0, {"tiny-mlp": "REGRESSED"}.items()))
    found = report.Findings(replay.Record(full), draws=20)
    shown = {what: value for what, _, _, _, value, _ in found.figures()}
    alarms = shown["false alarms per session, all conditions, run whole"]
    assert (alarms.value, alarms.independent) == (1 / 3, 10)  # of three cells, of equal weight
    assert shown["wall time to pytest-benchmark's defaults, 5% tolerance, run whole"] == pytest.approx(25 / 20)
    assert shown["wall time to pytest-benchmark's defaults, 1% tolerance, run whole"] == pytest.approx(100 / 20)
    assert "wall time to pytest-benchmark's defaults, 2% tolerance, replayed" in shown


def test_what_sessions_that_were_run_whole_have_caught_is_held_against_the_gates(tmp_path):
    folder, slower = samples.Folder(tmp_path), dict.fromkeys(TESTS, "REGRESSED")
    one_unclear = {**slower, TESTS[0]: "INCONCLUSIVE"}
    folder.append("session", whole_session(0, statuses={TESTS[0]: "INCONCLUSIVE"}.items()))
    for number in range(4):
        statuses = one_unclear if number == 0 else slower
        folder.append("session", whole_session(number, statuses=statuses.items(), change="+3%"))
    shown = {what: value for what, _, _, _, value, _ in report.Findings(replay.Record(tmp_path), draws=6).figures()}
    assert shown["power at 3%, quiet, injected, run whole"].value == 1 - 1 / (4 * len(TESTS))
    assert shown["inconclusive, quiet, 1% tolerance, run whole"] == 1 / len(TESTS)
    assert "power at 5%, quiet, injected, run whole" not in shown  # nothing was recorded for it


def test_only_some_arms_of_a_plan_can_be_recorded():
    assert set(record.of_arms(record.WHOLE, ("asv",))) == {("asv", "quiet", "none")}
    assert record.of_arms(record.WHOLE, ()) == record.WHOLE
    with pytest.raises(ValueError, match="the plan has no arm sesion; there are asv, pytest-benchmark, session, "):
        record.of_arms(record.WHOLE, ("sesion", "asv"))


def test_sessions_that_were_run_whole_can_be_reported_alone(tmp_path, capsys):
    folder = samples.Folder(tmp_path)
    record.begin(folder, 0, "whole")
    for number in range(3):
        folder.append("session-5%", whole_session(number))
        folder.append("pytest-benchmark", sessions(dict.fromkeys(TESTS, 1.0), number))
    report.report(tmp_path, draws=6)
    text = (tmp_path / "power.md").read_text()
    assert "| false alarms per session, all conditions, run whole | 2% | 1% | 0.0%" in text
    assert "| wall time to pytest-benchmark's defaults, 5% tolerance, run whole | 1.2x | 1x | 1.25x | NOT MET |" in text


def test_a_report_is_printed_and_written(full, capsys):
    pytest.importorskip("asv")
    report.report(full, draws=6)
    text = (full / "power.md").read_text()
    for expected in ("Identical code", "asv continuous, factor 1.1", "Gates and aims", "python benchmarks/", "Seed 0"):
        assert expected in text
    assert "Power per test, injected slowdowns, drift" not in text  # nothing was recorded for it
    assert "Gates and aims" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("value", "limit", "at_most", "expected"),
    [
        (None, 0.02, True, "NOT MET"),
        (rates.Rate(0.0, 10), 0.02, True, "met (figure)"),
        (rates.Rate(0.0, 1000), 0.02, True, "met"),
        (rates.Rate(0.0, 150), 0.02, True, "met"),  # 0.98^150 is 4.8%
        (rates.Rate(0.0, 145), 0.02, True, "met (figure)"),
        (rates.Rate(0.1, 1000), 0.02, True, "NOT MET"),
        (rates.Rate(1.0, 10), 0.9, False, "met (figure)"),
        (rates.Rate(1.0, 1000), 0.9, False, "met"),
        (rates.Rate(0.5, 1000), 0.9, False, "NOT MET"),
        (1.4, 1.5, True, "met"),
        (1.6, 1.5, True, "NOT MET"),
    ],
)
def test_a_target_is_met_by_the_figure_and_its_bound(value, limit, at_most, expected):
    assert report.mark(value, limit, at_most) == expected


def test_a_folder_without_a_record_is_said(tmp_path):
    with pytest.raises(ValueError, match="holds no record: make one"):
        report.report(tmp_path, 10)
