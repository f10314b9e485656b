import random

import pytest

from perfsuite.history import changes_of, series_of, usual_spread
from tests.history.histories import LATENCY, SIZE, rows


def noisy(count, levels, sd=0.02, seed=0):
    """``count`` values; ``levels`` maps an index to the level from there on."""
    rng, level, values = random.Random(seed), 1.0, []
    for number in range(count):
        level = levels.get(number, level)
        values.append(level * rng.lognormvariate(0, sd))
    return values


def only(found):
    (series,) = series_of(found)
    return series


def test_a_step_of_a_time_lies_between_two_commits_and_has_an_interval():
    series = only(rows(noisy(60, {0: 1.0, 35: 1.05})))
    (change,) = changes_of(series)
    assert (change.last_before, change.first_after) == (series.rows[change.index - 1], series.rows[change.index])
    assert int(change.first_after.commit, 16) == change.index
    assert change.first_after in change.likely
    assert series.rows[35] in change.likely
    assert len(change.likely) < 10
    assert change.low < 1.05 < change.high
    assert change.ratio == pytest.approx(1.05, abs=0.02)
    assert change.after / change.before == pytest.approx(1.05, abs=0.02)
    assert change.is_worse is True


def test_several_steps_are_each_measured_against_the_level_before():
    found = changes_of(only(rows(noisy(90, {30: 1.2, 60: 1.0}))))
    assert [change.is_worse for change in found] == [True, False]
    assert [change.ratio for change in found] == [pytest.approx(1.2, abs=0.03), pytest.approx(1 / 1.2, abs=0.03)]


def test_noise_is_no_change():
    assert changes_of(only(rows(noisy(60, {})))) == ()


def test_of_a_rate_more_is_better():
    rate = {**LATENCY, "metric": "throughput", "better": "higher"}
    assert [change.is_worse for change in changes_of(only(rows(noisy(60, {30: 0.8}), rate)))] == [True]
    unknown = {**LATENCY, "better": ""}
    assert [change.is_worse for change in changes_of(only(rows(noisy(60, {30: 0.8}), unknown)))] == [None]


def test_every_change_of_an_exact_metric_is_one():
    series = only(rows([100, 100, 101, 100, 100, 0, 5], SIZE))
    found = changes_of(series)
    assert all(change.likely == (change.first_after,) for change in found)
    assert [(change.index, change.before, change.after) for change in found] == [
        (2, 100, 101), (3, 101, 100), (5, 100, 0), (6, 0, 5),
    ]  # fmt: skip
    assert [(change.ratio, change.low, change.high) for change in found] == [
        (1.01, None, None), (100 / 101, None, None), (0, None, None), (None, None, None),
    ]  # fmt: skip
    assert usual_spread(series, found) is None


def test_accuracy_is_exact_too():
    accuracy = {**SIZE, "metric": "accuracy", "kind": "paired", "unit": "fraction", "better": "higher"}
    assert [change.is_worse for change in changes_of(only(rows([0.97, 0.97, 0.96], accuracy)))] == [True]


def test_what_cannot_be_compared_is_apart():
    """Half of the runs on a machine that is twice as fast: no change on either."""
    values = noisy(60, {})
    here, there = rows(values), rows([value / 2 for value in values], machine="other")
    beside = rows(values, yardstick="interpreter-1")
    mixed = [(here, there)[number % 2][number] for number in range(60)]
    found = series_of([*mixed, *beside, *rows([1.0], SIZE)])
    assert [(s.metric, s.machine, s.yardstick, len(s.rows)) for s in found] == [
        ("latency", LATENCY["machine"], "interpreter-1", 60),
        ("latency", LATENCY["machine"], "transformer-layer-1", 30),
        ("latency", "other", "transformer-layer-1", 30),
        ("size", LATENCY["machine"], "", 1),
    ]
    assert [changes_of(series) for series in found] == [(), (), (), ()]


def test_rows_may_come_in_any_order_and_without_values():
    ordered = rows([1.0, None, 3.0], SIZE)
    series = only([ordered[2], *ordered])  # the last run is there twice: it counts once
    assert series.values == (1.0, 3.0)
    assert series_of(rows([None])) == []


def test_the_usual_spread_is_that_between_changes():
    series = only(rows(noisy(200, {100: 1.5}, sd=0.03)))
    changes = changes_of(series)
    assert len(changes) == 1
    spread = usual_spread(series, changes)
    assert spread.sd == pytest.approx(0.03, rel=0.2)
    assert spread.df == 198
    assert usual_spread(only(rows([1.0, 1.1])), ()) is None
