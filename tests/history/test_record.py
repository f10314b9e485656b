from datetime import UTC, datetime

import pytest

from perfsuite.history import append, read, record_of
from perfsuite.metric import Direction, Exact, Metric
from perfsuite.protocols import Run
from perfsuite.registry import METRICS
from perfsuite.spec import Status, Verdict
from perfsuite.units import Unit

CASE = "m/fp32/cpu/b1"


def verdict(metric="latency", unit="seconds", limit="5%", **numbers):
    return Verdict(CASE, metric, unit, limit, Status.PASS, "it is judged", **numbers)


def only(*verdicts, information=None, **kwargs):
    run = Run(verdicts, {}, information={CASE: information or {}}, **kwargs)
    return record_of(run, "epyc-2c2t", branch="main")


def test_a_run_says_when_where_and_what(tmp_path):
    record = only(verdict("size", "bytes", "0%", measured=1200.0, expected=1000.0, change=1.2), commit="abc+changes",
                  created="2026-10-01T02:30:00.5+02:00")  # fmt: skip
    assert record.time == datetime(2026, 10, 1, 0, 30, tzinfo=UTC)
    assert record.run.startswith("20261001T003000-")
    append(tmp_path / "h", record)
    (row,) = read(tmp_path / "h")
    assert (row.commit, row.branch, row.machine, row.case) == ("abc+changes", "main", "epyc-2c2t", CASE)
    assert (row.metric, row.kind, row.better, row.unit, row.value) == ("size", "exact", "lower", "bytes", 1200)
    assert (row.status, row.limit) == ("PASS", "0%")


def test_two_runs_are_told_apart_and_one_without_a_date_is_now():
    records = [only(verdict()), only(verdict())]
    assert len({record.run for record in records}) == 2
    assert abs((records[0].time - datetime.now(UTC)).total_seconds()) < 60
    assert records[0].commit == "unknown"


def test_a_time_is_its_ratio_to_the_yardstick_and_p50():
    shown = {"yardstick": "transformer-layer-1", "yardstick_ratio": 0.8, "p50_ms": 1.5}
    judged = verdict(measured=3.0, expected=1.5, change=2.0, low=1.9, high=2.2)
    (found,) = only(judged, information=shown).measurements
    assert (found.unit, found.yardstick, found.value, found.p50_ms) == ("ratio", "transformer-layer-1", 0.8, 1.5)
    assert (found.low, found.high) == (pytest.approx(0.8 * 1.9 / 2), pytest.approx(0.8 * 2.2 / 2))


def test_a_rate_is_the_inverse_so_that_higher_stays_better():
    shown = {"yardstick": "y", "yardstick_ratio": 0.8}
    (found,) = only(verdict("throughput", "examples/s", measured=100.0), information=shown).measurements
    assert (found.value, found.better) == (1 / 0.8, "higher")


def test_a_bound_on_a_raw_time_stays_in_seconds():
    (found,) = only(verdict(limit="<=1 s", measured=0.5, low=0.4, high=0.6)).measurements
    assert (found.unit, found.value, found.low, found.high, found.yardstick) == ("seconds", 0.5, 0.4, 0.6, "")


def test_a_time_beside_a_base_revision_stays_in_seconds():
    """Its interval is that of the change; what is kept is that of the time."""
    (found,) = only(verdict(measured=3.0, expected=1.5, change=2.0, low=1.9, high=2.2)).measurements
    assert (found.unit, found.value, found.low, found.high) == ("seconds", 3.0, 1.9 * 1.5, pytest.approx(2.2 * 1.5))


def test_a_relation_has_no_yardstick():
    shown = {"yardstick": "y", "yardstick_ratio": 0.8}
    (found,) = only(
        verdict("speedup", "ratio", ">=1.5", measured=1.7, low=1.6, high=1.8), information=shown
    ).measurements
    assert (found.kind, found.value, found.low, found.yardstick) == ("sampled", 1.7, 1.6, "")


@pytest.mark.parametrize("measured", [None, float("nan"), float("inf")])
def test_what_was_not_measured_is_kept_without_a_value(measured):
    (found,) = only(verdict(measured=measured)).measurements
    assert (found.value, found.status) == (None, "PASS")


def test_a_case_on_an_accelerator_is_of_another_machine():
    (found,) = only(verdict(measured=1.0), information={"machine": "h100-16c2t"}).measurements
    assert found.machine == "h100-16c2t"


def test_a_metric_of_ones_own():
    metrics = METRICS.copy()
    metrics.register("jitter", Metric("jitter", Unit.SECONDS, Direction.LOWER, Exact(lambda subject: 0.1)))
    run = Run((verdict("jitter", measured=0.1), verdict("unheard-of", measured=3.0)), {})
    known, unknown = record_of(run, "m", metrics=metrics).measurements
    assert (known.kind, known.better) == ("exact", "lower")
    assert (unknown.kind, unknown.better, unknown.value) == ("exact", "", 3.0)
