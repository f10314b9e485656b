import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from perfsuite.errors import UsageError
from perfsuite.history import matching, render
from tests.history.histories import CASE, LATENCY, SIZE, rows
from tests.history.test_changes import noisy

STEPPED = noisy(60, {40: 1.1}, sd=0.01)


def drawn(values, like=LATENCY, width=120, **kwargs):
    return list(render(CASE, rows(values, like), width, **kwargs))


def test_a_history_is_drawn_with_its_change():
    text = drawn(STEPPED)
    assert text[0] == CASE
    assert text[1].startswith("latency relative to the yardstick transformer-layer-1: 1.0")
    assert text[1].endswith("x (1.5 ms a call) in the last of 60 runs")
    assert text[2] == "2026-08-01 to 2026-08-03 on epyc-2c2t-0a1b2c3d"
    plot, marks = text[3:8], text[8]
    column = marks.index("A")
    heights = [sum(line[x : x + 1] not in ("", " ") for line in plot) for x in range(column - 40, column + 20)]
    assert max(heights[:40]) < min(heights[40:])  # bars of the new level are higher, from the mark on
    assert column == len(plot[-1]) - 20  # one column for each run
    assert re.match(r"A \+\d+\.\d% \(\+\d+\.\d% to \+\d+\.\d%\), worse: 1\.0\d*x -> 1\.\d+x", text[9])
    assert "after 0000027, by 0000028" in " ".join(text)
    assert re.search(r"runs without a change spread by (0\.[789]|1\.\d)%", text[-1])


@pytest.mark.parametrize("width", [40, 41, 80, 200])
@pytest.mark.parametrize("ascii", [False, True])
@pytest.mark.parametrize("count", [1, 2, 30, 61, 500])
def test_it_fits(width, ascii, count):
    text = drawn(noisy(count, {count // 2: 1.2}), width=width, ascii=ascii)
    assert max(map(cell_len, text)) <= width
    assert all(line == line.rstrip() for line in text)
    assert all(line.isascii() for line in text) or not ascii


def test_more_runs_than_columns_share_them():
    text = drawn(noisy(500, {250: 1.2}), width=40)
    marks = next(line for line in text if line.strip() == "A")
    plot = text[text.index(marks) - 1]
    start = re.match(r"\S+ ", plot).end()
    assert len(plot) == 40
    assert marks.index("A") - start == pytest.approx((40 - start) / 2, abs=1)


def test_an_outlier_is_cut_off_and_does_not_flatten_the_rest():
    values = [*noisy(30, {}, seed=3), 50.0, *noisy(29, {}, seed=4)]
    text = drawn(values)
    assert text[3].count("^") == 1
    assert text[3].strip().startswith("1.")


def test_one_value_and_equal_values_are_drawn():
    assert "▄" in "".join(drawn([2.0]))
    assert drawn([2.0])[-1] == "fewer than 12 runs: too few to tell a change from noise"
    assert drawn([1000.0] * 5, SIZE)[-1] == "no change found"


def test_an_exact_change_says_from_where_to_where():
    text = " ".join(drawn([1000.0] * 3 + [1200.0] * 3, SIZE))
    assert "A +20.0%, worse: 1 kB -> 1.2 kB, 2026-08-01, after 0000002, by 0000003" in text
    assert "A from 0 B, worse: 0 B -> 5 B" in " ".join(drawn([0.0, 5.0], SIZE))


def test_a_change_without_a_commit_says_so():
    found = rows([1.0] * 3 + [2.0] * 3, SIZE, commit="abc")
    assert "with abc on both sides, so not by a commit" in " ".join(render(CASE, found, 200))


def test_commits_that_may_have_brought_it_are_named():
    text = " ".join(drawn(noisy(60, {0: 1.0, 35: 1.05}), width=300))
    assert re.search(r"after 000001f, by 0000020 \(or 00000\w\w(, 00000\w\w)* and \d more\)", text)


def test_many_changes_are_counted_and_the_last_are_listed():
    text = drawn([float(number) for number in range(60)], SIZE)
    assert "(49 earlier changes)" in text
    assert text[-2].startswith("* ")
    assert text[-1].startswith("* ")


def test_every_series_of_every_matching_case_is_drawn():
    found = [*rows([1.0]), *rows([5.0], SIZE), *rows([1.0], {**LATENCY, "case": "other"})]
    text = list(render("encoder-*", found))
    assert text.count(CASE) == 2
    assert "other" not in text
    assert list(render("*", rows([None]))) == [f"nothing was measured yet of {CASE}"]


def test_a_name_cannot_drive_the_terminal():
    found = rows([1.0], {**LATENCY, "case": "a\x1b[31m\nb é 模型" * 9})
    for ascii in (False, True):
        text = list(render("*", found, 40, ascii))
        assert all(line.isprintable() for line in text)
        assert max(map(cell_len, text)) <= 40
    assert "模" not in "".join(text)


@given(
    st.lists(st.floats(1e-300, 1e300), min_size=1, max_size=30), st.booleans(), st.sampled_from(["sampled", "exact"])
)
def test_any_numbers_can_be_drawn(values, ascii, kind):
    like = {**LATENCY, "kind": kind, "unit": "furlongs"}
    assert max(map(len, drawn(values, like, width=40, ascii=ascii))) <= 40


@pytest.mark.parametrize("kind", ["sampled", "exact"])
def test_steps_beyond_what_a_number_says_are_drawn(kind):
    text = "\n".join(drawn([1e-300] * 12 + [1e300] * 12, {**LATENCY, "kind": kind}))
    assert "+inf%" in text
    assert "1e+300" in text
    assert "1.7976e+308" in "\n".join(drawn([-1.7976e308, 1.7976e308], {**SIZE, "unit": "furlongs"}))


def test_a_case_is_found_by_name_before_it_is_a_pattern():
    known = ["t.py::test_x[a]", "t.py::test_xa", "encoder-small/fp32/cpu/b1", "encoder-small/fp32/cpu/b8"]
    assert matching("t.py::test_x[a]", known) == ["t.py::test_x[a]"]
    assert matching("encoder-*", known) == known[2:]


@pytest.mark.parametrize(
    ("pattern", "remedy"),
    [
        ("encoder-smal/fp32/cpu/b1", r"did you mean 'encoder-small/fp32/cpu/b1'.*2 cases are there"),
        ("fp32", "did you mean 'encoder-small/fp32/cpu/b1'"),
        ("zzzzzz", "the first is 'bert'"),
    ],
)
def test_no_such_case_names_the_nearest(pattern, remedy):
    with pytest.raises(UsageError, match=re.escape(f"no case {pattern!r} in the history")) as error:
        matching(pattern, ["encoder-small/fp32/cpu/b1", "bert"])
    assert re.match(remedy, error.value.remedy)
    with pytest.raises(UsageError, match="the history is empty"):
        matching(pattern, [])
