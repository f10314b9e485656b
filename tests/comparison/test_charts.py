"""What the panels of a chart show, read back from the axes that they are drawn on."""

import itertools
import sys

import pytest

from perfsuite.comparison import charts
from perfsuite.comparison.values import Call
from perfsuite.comparison.views import Report
from perfsuite.errors import UnavailableError, UsageError
from perfsuite.storage import Stored
from tests.comparison.studies import block, profile, scores, study

pytest.importorskip("matplotlib")
SIZES = (1, 8)


def drawn(panel, found):
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    panel(found, axes)
    return axes


def points(axes):
    """(x, y) of each line with points on it."""
    return [tuple(zip(*map(list, line.get_data()), strict=True)) for line in axes.lines if line.get_marker() != "None"]


def levels(**changes):
    """Three levels of sparsity, the sparsest of which comes second."""
    forms = [("original", 1000, 1.0), ("magnitude-90", 100, 0.25), ("magnitude-50", 500, 0.75)]
    calls = {name: Call(30.0, None if name == "original" else kept) for name, _, kept in forms}
    return study(*(profile(name, call=calls[name], stored=Stored(4000, 1000, n), **changes) for name, n, _ in forms))


def test_throughput_is_drawn_over_batch_sizes_for_every_form():
    found = study(profile(sizes=(8, 1)), profile("a", sizes=(8, 1)), blocks=(block(original=2, a=1),))
    axes = drawn(charts._throughput, found)
    assert points(axes) == [((1, 500), (8, 4000)), ((1, 1000), (8, 8000))]  # by size, in whatever order measured
    assert [line.get_label() for line in axes.lines] == ["original", "a"]
    assert axes.get_ylim()[0] == 0
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["8", "1"]


def test_a_speedup_has_a_line_of_its_own_for_each_form_and_size_and_none_for_the_original():
    blocks = block(original=6, a=3, b=2), block(1, original=6.6, a=3, b=2.2)
    found = study(*(profile(name, SIZES) for name in ("original", "a", "b")), blocks=blocks)
    axes = drawn(charts._speedup, found)
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["a b1", "a b8", "b b1", "b b8"]
    ratios = [found.timings[name, size].speedup for name in "ab" for size in SIZES]
    assert [bar.lines[0].get_xdata()[0] for bar in axes.containers] == [ratio.ratio for ratio in ratios]
    for bar, ratio in zip(axes.containers, ratios, strict=True):
        ((low, _), (high, _)) = bar.lines[2][0].get_segments()[0]
        assert (low, high) == pytest.approx((ratio.low, ratio.high))
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # read from the top, as in the table


def test_the_batch_size_is_not_repeated_where_there_is_one():
    axes = drawn(charts._speedup, study(profile(), profile("a$b")))
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [r"a\$b"]  # a dollar sign would begin a formula


def test_an_interval_that_nobody_knows_is_not_drawn():
    axes = drawn(charts._speedup, study(profile(), profile("a"), blocks=(block(original=2, a=1),)))
    (bar,) = axes.containers
    assert not bar.has_xerr


@pytest.mark.parametrize("scored", [False, True])
def test_degradation_goes_from_the_original_to_the_sparsest(scored):
    """Also where nothing is scored: that the original agrees with itself is not in its row."""
    found = levels(scores=scores(1, 1, 0, 0)) if scored else levels()
    axes = drawn(charts._degradation, found)
    kept = (50, 50, 50) if scored else (100, 75, 25)
    assert points(axes) == [tuple(zip((0, 0.5, 0.9), kept, strict=True))]
    assert axes.get_title() == f"{'Accuracy' if scored else 'Same answer as the original'} over sparsity"


def test_what_is_always_wrong_is_drawn_at_the_bottom():
    axes = drawn(charts._degradation, levels(scores=scores(0, 0)))
    assert points(axes) == [((0, 0), (0.5, 0), (0.9, 0))]


def test_forms_without_a_file_have_no_zeros_and_can_be_drawn():
    found = study(profile(stored=None), profile("a", stored=None))
    assert points(drawn(charts._degradation, found)) == [((0, 100), (0, 100))]
    hollow = drawn(charts._quality, found)
    assert {line.get_markerfacecolor() for line in hollow.lines[:2]} == {"none"}


def test_quality_is_that_of_the_largest_batch_and_areas_are_those_of_files():
    forms = [("original", 4000, 1.0), ("a", 1000, 0.9)]
    found = study(
        *(profile(name, SIZES, Call(30.0, kept), stored=Stored(size, 1000, 1000)) for name, size, kept in forms),
        blocks=(block(original=2, a=1),) * 2,
    )  # fmt: skip
    axes = drawn(charts._quality, found)
    original, small = axes.lines[:2]
    assert points(axes)[:2] == [((1, 100),), ((pytest.approx(2), pytest.approx(90)),)]
    assert original.get_markersize() ** 2 == pytest.approx(4 * small.get_markersize() ** 2)
    assert small.zorder > original.zorder  # the smaller one is not hidden below the larger
    assert axes.get_title() == "Same answer as the original, batch size 8"


def test_quality_is_accuracy_where_there_is_a_score():
    found = study(profile(scores=scores(1, 1, 1, 0)), profile("a", scores=scores(1, 0, 0, 0)))
    axes = drawn(charts._quality, found)
    assert [y for ((_, y),) in points(axes)[:2]] == [75, 25]
    assert axes.get_title() == "Accuracy, batch size 1"


def test_a_form_whose_quality_nobody_knows_is_left_out():
    found = study(profile(), profile("a"), profile("b", call=Call()))
    assert len(points(drawn(charts._quality, found))) == 2


@pytest.mark.parametrize(("fast", "scale"), [(0.7, "linear"), (0.1, "log")])
def test_a_wide_range_of_ratios_is_logarithmic(fast, scale):
    blocks = (block(original=1, a=fast, b=1.1), block(1, original=1, a=fast, b=1.1))
    axes = drawn(charts._speedup, study(profile(), profile("a"), profile("b"), blocks=blocks))
    assert axes.get_xscale() == scale
    assert axes.xaxis.get_major_formatter()(1.5, 0) == "1.5x"


def test_no_two_of_many_forms_look_the_same():
    styles = [tuple(charts._style(number).values()) for number in range(30)]
    assert all(one != other for one, other in itertools.combinations(styles, 2))


def test_panels_are_those_that_there_are_numbers_for(tmp_path):
    def titles(found, more=None):
        path = charts.draw(found, tmp_path / "chart.svg", more)
        text = path.read_text()
        return [title for title in ("Throughput", "Speedup", "batch size 1", "over sparsity") if f"{title}" in text]

    assert titles(study(profile())) == ["Throughput"]
    assert titles(study(profile(), profile("a"))) == ["Throughput", "Speedup", "batch size 1"]
    assert titles(study(profile(), profile("a")), levels()) == [
        "Throughput",
        "Speedup",
        "batch size 1",
        "over sparsity",
    ]


@pytest.mark.parametrize("ending", [".png", ".SVG", ".pdf"])
def test_an_ending_can_be_checked_before_anything_is_measured(tmp_path, ending):
    charts.check_path(tmp_path / f"chart{ending}")
    assert not list(tmp_path.iterdir())


def test_the_endings_that_a_refusal_names_can_be_drawn(tmp_path):
    with pytest.raises(UsageError, match=r"cannot draw into .*chart\.docx") as refused:
        charts.check_path(tmp_path / "chart.docx")
    for ending in refused.value.remedy.removeprefix("use one of the endings ").split(", "):
        charts.check_path(tmp_path / f"chart{ending}")
    assert {".png", ".svg", ".pdf"} <= set(refused.value.remedy.removeprefix("use one of the endings ").split(", "))


def test_without_matplotlib_that_is_said_first(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UnavailableError, match="pip install matplotlib"):
        charts.check_path(tmp_path / "chart.docx")


def test_a_view_draws_its_levels_too(tmp_path):
    path = Report(study(profile(), profile("a"))).plot(str(tmp_path / "chart.svg"), Report(levels()))
    assert "over sparsity" in path.read_text()
