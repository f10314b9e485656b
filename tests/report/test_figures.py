import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfsuite.protocols import Run
from perfsuite.report.charts.drawings import Line, Point, _skyline, ridges, steps
from perfsuite.report.charts.svg import SHAPES, Axis, _shape, mark, shortened, style, tag
from perfsuite.report.figures import Group, groups, operators_of, pareto
from perfsuite.report.rows import rows
from perfsuite.spec import Status
from perfsuite.units import Unit
from tests.report.runs import compared_run, verdict

positive = st.floats(1e-9, 1e12)


def figures(run):
    return {figure.title: figure for group in groups(rows(run)) for figure in group.figures}


@given(st.dictionaries(st.text(min_size=1, max_size=3), st.tuples(positive, positive), min_size=1, max_size=12))
def test_the_front_is_what_nothing_beats(points):
    front = pareto(points)

    def beaten(name):
        x, y = points[name]
        return any((a <= x and b >= y) and (a, b) != (x, y) for a, b in points.values())

    assert front == {name for name in points if not beaten(name)}


@given(positive, positive, st.booleans())
def test_ticks_are_few_round_and_on_the_axis(one, other, log):
    low, high = sorted((one, other))
    axis = Axis.around([low, high], 60, 400, Unit.COUNT, log=log)
    ticks = axis.ticks()
    assert 1 <= len(ticks) <= 14
    assert all(axis.low <= tick * (1 + 1e-9) and tick <= axis.high * (1 + 1e-9) for tick in ticks)
    assert ticks == sorted(ticks)
    for tick in filter(None, ticks):
        assert len(f"{abs(tick):.6e}".partition("e")[0].rstrip("0")) <= 6
    assert 60 <= axis.at(low) <= axis.at(high) <= 400


def test_an_axis_goes_both_ways():
    axis = Axis(0, 10, 200, 0, Unit.COUNT)
    assert [axis.at(value) for value in (0, 5, 10)] == [200, 100, 0]
    assert Axis(1, 100, 0, 200, Unit.COUNT, log=True).at(10) == pytest.approx(100)


def test_looks_repeat_late():
    looks = {(style(series), _shape(series)) for series in range(64)}
    assert len(looks) == 64
    assert len(set(SHAPES)) == 8


def test_elements_escape_and_round():
    assert tag("text", "<b>&", x=1.25, y=2.0, text_anchor="end", class_='"', cx=None) == (
        '<text x="1.2" y="2" text-anchor="end" class="&#34;">&lt;b&gt;&amp;</text>'
    )
    assert "<title>&lt;x&gt;</title>" in mark(0, 1, 2, "<x>")
    assert shortened("a" * 50, 70) == "a" * 9 + "…"


def test_throughput_needs_two_batch_sizes():
    assert "Throughput by batch size" in figures(compared_run(batch_sizes=(1, 8)))
    assert "Throughput by batch size" not in figures(compared_run(batch_sizes=(8,)))


def test_the_trade_marks_its_front_and_says_its_batch_size():
    size = figures(compared_run())["Accuracy against size"]
    assert size.picture.count('class="ring"') == 2  # fp32 and int8-dynamic: the best accuracy, and the smallest file
    assert "at batch size 1" in size.picture
    assert size.legend[0][1] == "fp32"
    speed = figures(compared_run())["Accuracy against speed"]
    assert speed.picture.count('class="ring"') == 2  # structured-50 is slower than int8-dynamic, and worse


def test_degradation_starts_at_the_original():
    figure = figures(compared_run())["Accuracy over sparsity"]
    assert [name for _, name in figure.legend] == ["magnitude", "structured"]
    assert "<title>fp32: 97%</title>" in figure.picture
    assert all(f"<title>{name}: " in figure.picture for name in ("magnitude-50", "magnitude-90", "structured-50"))
    only = Run((), {}, information={k: v for k, v in compared_run().information.items() if "magnitude-50" in k})
    assert "Accuracy over sparsity" not in figures(only)


def test_another_quality_stands_in_for_accuracy():
    run = compared_run()
    information = {
        key: {**{name: value for name, value in shown.items() if name != "accuracy"}, "agreement": shown["accuracy"]}
        for key, shown in run.information.items()
    }
    assert "Agreement against size" in figures(Run((), {}, information=information))


def test_speedup_shows_interval_bound_and_what_missed():
    judged = (
        verdict(
            "m/a/cpu/b1", "speedup", Status.REGRESSED, "ratio", ">=1.5", measured=1.2, expected=1.5, low=1.1, high=1.3
        ),
        verdict("m/b/cpu/b1", "speedup", Status.PASS, "ratio", ">=1.5", measured=2.0, expected=1.5, low=1.9, high=2.1),
    )
    figure = figures(Run(judged, {}))["Speedup"]
    assert figure.picture.count('class="bound"') == 2
    assert figure.picture.count('class="whisker bad"') == 1
    assert "a b1: 1.2x (1.1x to 1.3x), at least 1.5x was asked for and missed" in figure.picture


def test_what_is_not_drawn_is_counted_and_what_missed_is_drawn():
    judged = tuple(
        verdict(f"m/t{i}/cpu/b1", "speedup", Status.REGRESSED if i == 0 else Status.PASS, "ratio", ">=1",
                measured=0.5 + i / 10, expected=1.0) for i in range(100)
    )  # fmt: skip
    figure = figures(Run(judged, {}))["Speedup"]
    assert "70 more cases are not drawn." in figure.note
    assert "t0 b1: 0.5x" in figure.picture


def test_groups_are_by_model_and_device():
    found = groups(rows(compared_run(models=("a", "b/c"))))
    assert [group.title for group in found] == ["a on cpu", "b/c on cpu"]
    assert all(isinstance(group, Group) and len(group.figures) == 5 for group in found)


def test_zero_and_negative_values_are_not_put_on_ratios():
    information = {f"m/{t}/cpu/b1": {"p50_ms": 0.0, "speedup": -1.0, "size_bytes": 0, "accuracy": 0.0} for t in "ab"}
    assert figures(Run((), {}, information=information)) == {}


def test_operators_that_came_and_went():
    changed = {f"aten::x{i:02}": (i, 0) for i in range(1, 15)} | {"aten::same": (3, 3), "aten::new": (0, 40)}
    picture, more = operators_of(Run((), {}, operators={"c": changed}), "c")
    assert more == 3
    assert picture.count('class="came"') == 1
    assert picture.count('class="went"') == 11
    assert "aten::same" not in picture
    assert operators_of(Run((), {}, operators={"c": {"aten::same": (3, 3)}}), "c") is None


@given(st.lists(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=60), min_size=1, max_size=8))
def test_ridges_take_any_samples(blocks):
    picture = ridges(blocks, "x")
    assert picture.count('class="ridge"') == picture.count('class="median"') == len(blocks)
    assert "nan" not in picture


@given(st.lists(st.integers(0, 22), min_size=1, max_size=40))
def test_a_skyline_ends_where_its_last_bar_does(heights):
    up = across = 0
    tops = []
    for move, amount in re.findall(r"([vh])(-?\d+)", _skyline(heights)):
        if move == "v":
            up -= int(amount)
        else:
            tops += [up] * (int(amount) // 8)
            across += int(amount)
    assert tops == heights
    assert across == 8 * len(heights)


def test_a_constant_line_and_a_single_point_are_drawn():
    line = Line(0, "x", (Point(1, 5.0, "a"), Point(8, 5.0, "b")))
    picture = steps([line], "batch size", Unit.PER_SECOND, "x")
    assert "nan" not in picture
    assert math.isfinite(float(picture.partition('points="')[2].partition(",")[0]))
