"""Tables as text and as markdown, for cells that nobody would expect, and the words that numbers are told in."""

import html
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfsuite.comparison import tables
from perfsuite.comparison.tables import Section
from perfsuite.comparison.values import Call
from perfsuite.comparison.views import Comparison, PerformanceComparison, Report
from perfsuite.measure.engines import EAGER
from perfsuite.storage import Stored
from tests.comparison.studies import block, profile, scores, study

WORD = st.text("abcdefgh-", min_size=1, max_size=9)
NAME = st.lists(WORD, min_size=1, max_size=6).map(" ".join)
HOSTILE = st.text("ab|<>&*_`[]#@\\$ ", min_size=1, max_size=12)


@st.composite
def sections(draw, name=NAME, cell=WORD):
    columns, rows = draw(st.integers(2, 5)), draw(st.integers(1, 4))
    header = tuple(draw(cell) for _ in range(columns))
    cells = tuple((draw(name), *(draw(cell) for _ in range(columns - 1))) for _ in range(rows))
    return Section("heading", header, cells, words=draw(st.booleans()))


def squeezed(text):
    return "".join(text.split())


@settings(max_examples=40)
@given(sections(), st.integers(30, 120))
def test_no_line_is_wider_than_asked_and_every_cell_is_there(section, width):
    lines = list(tables.text("a title", [section], ["a note"], width))
    assert max(map(len, lines)) <= width
    shown = squeezed("".join(lines))
    for row in section.rows:
        for cell in row[1:]:
            assert squeezed(cell) in shown


@settings(max_examples=40)
@given(sections())
def test_a_table_with_room_has_a_line_for_each_row_with_its_cells_in_order(section):
    lines = list(tables.text("", [section], [], 400))
    body = [line for line in lines if line][-len(section.rows) :]
    for before, row, line in zip((("",), *section.rows), section.rows, body, strict=False):
        told = row[1:] if row[0] == before[0] else row
        assert line.split() == " ".join(told).split()


def test_a_name_is_said_again_when_another_one_was_between():
    section = Section("t", ("variant", "batch"), (("a", "1"), ("a", "8"), ("b", "1"), ("a", "9")))
    for width in (80, 20):  # as a table, and as a list where there is no room for one
        lines = list(tables.text("", [section], [], width))
        assert sum(line.split()[:1] == ["a"] for line in lines) == 2


def test_numbers_are_never_broken_and_a_table_without_room_for_names_is_a_list():
    section = Section("t", ("variant", "p50", "p90"), (("a-rather-long-name", "12.34 ms", "23.45 ms"),))
    wide, narrow = (list(tables.text("", [section], [], width)) for width in (32, 31))
    assert any("12.34 ms  23.45 ms" in line for line in wide)  # 12 letters of the name in a line
    assert "  p50 12.34 ms, p90 23.45 ms" in narrow


def test_a_list_leaves_out_what_is_empty():
    section = Section("t", ("variant", "one", "two"), (("a", "", "2"),), words=True)
    assert "  two 2" in list(tables.text("", [section], [], 40))


def test_words_stand_to_the_left_and_numbers_to_the_right():
    rows = (("a", "1"), ("b", "1000"))
    for words in (False, True):
        section = Section("t", ("variant", "number"), rows, words)
        lines = [line for line in tables.text("", [section], [], 80) if line[:2] in ("a ", "b ")]
        starts = {line.rindex(" ") for line in lines}
        assert (len(starts) == 1) is words


@given(sections(HOSTILE, HOSTILE), HOSTILE)
def test_markdown_keeps_its_cells_apart_whatever_is_in_them(section, note):
    lines = list(tables.markdown("title", [section], [note]))
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 2 + len(section.rows)
    assert {line.count("|") for line in rows} == {len(section.header) + 1}
    assert not any("<" in line or "@" in line.replace("@&#8203;", "") for line in lines)
    for row, line in zip(section.rows, rows[2:], strict=True):
        read = [re.sub(r"\\(.)", r"\1", html.unescape(cell)).replace("\u200b", "") for cell in line.split("|")[1:-1]]
        assert [" ".join(cell.split()) for cell in read] == [" ".join(cell.split()) for cell in row]
    assert lines[-1].startswith("- ")


def test_markdown_says_on_which_side_a_column_stands():
    for words, expected in ((False, "|---|---:|---:|"), (True, "|---|---|---|")):
        assert expected in list(tables.markdown("t", [Section("t", ("a", "b", "c"), (), words)], []))


def test_a_title_and_notes_are_wrapped_and_notes_are_marked():
    lines = list(tables.text("word " * 30, [], ["word " * 30, "short"], 40))
    assert max(map(len, lines)) <= 40
    assert [line for line in lines if line.startswith("- ")] == ["- " + ("word " * 7).strip(), "- short"]
    assert "  word" in lines[-2]  # what goes on is below the text, not below the mark


def columns(section):
    return {name: [row[number] for row in section.rows] for number, name in enumerate(section.header)}


def test_a_column_is_there_if_anybody_fills_it():
    small = profile("small", call=Call(25.0, 0.9, 250), stored=Stored(1000, 1000, 400), engine=EAGER)
    found = study(profile(), small, blocks=(block(original=4, small=2), block(1, original=4, small=2)))
    assert columns(tables.relative(found)) == {
        "variant": ["small"], "batch": ["1"], "speedup": ["2x"], "95% interval": ["2x to 2x"],
        "memory saved": ["50%"], "SQNR": ["25.0 dB"], "same answer": ["90%"],
    }  # fmt: skip
    assert columns(tables.stored(found)) == {
        "variant": ["original", "small"], "file": ["4 kB", "1 kB"], "smaller": ["1x", "4x"], "zeros": ["0%", "60%"],
    }  # fmt: skip
    assert columns(tables.performance(found.rows())) == {
        "variant": ["original", "small"], "batch": ["1", "1"], "p50": ["4 ms", "2 ms"], "p90": ["4 ms", "2 ms"],
        "p99": ["4 ms", "2 ms"], "examples": ["250/s", "500/s"], "memory": ["500 B", "250 B"],
    }  # fmt: skip
    assert not tables.energy(found).rows
    assert not tables.gains(found).rows


def test_what_does_not_depend_on_the_batch_size_is_said_once():
    assert len(tables.stored(study(profile(sizes=(1, 8)), profile("a", sizes=(1, 8)))).rows) == 2


def test_energy_is_told_with_three_digits_and_its_ratio():
    energies = {"original": (8.0, 8.0), "a": (4.0, 4.0)}
    found = study(profile(sizes=(4,)), profile("a", sizes=(4,)), energies=energies)
    assert columns(tables.energy(found)) == {
        "variant": ["original", "a"], "batch": ["4", "4"], "energy of one example": ["2 J", "1 J"],
        "less energy": ["", "2x"], "95% interval": ["", "2x to 2x"],
    }  # fmt: skip


def test_flips_are_told_with_the_change_that_they_make():
    found = study(profile(scores=scores(1, 1, 0, 0)), profile("a", scores=scores(0, 0, 1, 0)))
    told = columns(tables.stored(found))
    assert told["accuracy"] == ["50%", "25%"]
    assert told["change of accuracy"][0] == ""
    assert told["change of accuracy"][1].endswith(": 2 lost, 1 won")
    assert told["change of accuracy"][1].startswith("-25")


def test_gains_are_told_only_where_an_engine_takes_part():
    found = study(
        profile(), profile("int8", call=Call(20.0)), profile("fast", engine="other"),
        blocks=(block(original=12, int8=6, fast=3),) * 2,
    )  # fmt: skip
    assert tables.gains(found).rows == (
        ("int8", "1", "all", "2x (2x to 2x)"), ("int8", "1", "the technique", "2x (2x to 2x)"),
        ("fast", "1", "all", "4x (4x to 4x)"), ("fast", "1", "the engine", "4x (4x to 4x)"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({}, "-"),
        ({"sparsity": 0.3}, "30% of weights zero"),
        ({"heads": 0.25, "units": 0.5}, "25% of heads gone, 50% of units gone"),
        ({"bits": 8}, "8-bit weights"),
        ({"speedup": 2.0, "compression": 4}, "2x faster, 4x smaller"),
        ({"wonders": 0.125}, "wonders 0.125"),
    ],
)
def test_claims_are_told_in_words(claims, words):
    assert tables.claimed(claims) == words


def test_a_ledger_tells_of_a_file_what_it_may_compare_it_with():
    def told(before, after):
        return tables.ledger(study(profile(stored=before), profile("a", stored=after))).rows[0][2]

    assert told(Stored(4000, 1000, 1000), Stored(1000, 1000, 250)) == "4x smaller, 75% zeros"
    assert told(None, Stored(1000, 1000, 250)) == "a file, 75% zeros"
    assert told(Stored(4000, 1000, 1000), None) == "no file"


def test_a_ledger_has_a_line_for_each_batch_size():
    (row,) = tables.ledger(study(profile(sizes=(1, 8)), profile("a", sizes=(1, 8), claimed={"bits": 4}))).rows
    assert row[1] == "4-bit weights"
    assert row[3] == "batch 1: 1x (1x to 1x)\nbatch 8: 1x (1x to 1x)"


def test_a_profile_tells_what_it_knows_and_nothing_else():
    known = profile("a", (1, 8), Call(25.0, 0.9, 250), stored=Stored(4000, 1000, 500), scores=scores(1, 0))
    assert str(known) == (
        "a: 4 kB in the file, 1,000 numbers, 50% of them zero, 250 B live at batch 1, 25.0 dB to the original, "
        "250 B live at batch 8, 25.0 dB to the original, accuracy 50% on digits"
    )
    assert str(profile("a", call=Call(), stored=None)) == "a"


def test_each_view_has_the_sections_that_it_is_for():
    found = study(profile(), profile("a"), energies={"original": (2.0, 2.0), "a": (1.0, 1.0)})
    titles = {
        kind: [line[4:] for line in kind(found).to_markdown().splitlines() if line.startswith("### ")]
        for kind in (Report, Comparison, PerformanceComparison)
    }
    compared = ["Beside the original", "Energy", "Ledger"]
    assert titles == {
        Report: ["Performance", "File and accuracy", *compared],
        Comparison: compared,
        PerformanceComparison: ["Performance", "Beside the original"],
    }


def test_an_original_alone_is_compared_with_nothing():
    text = Report(study(profile())).to_markdown()
    assert "Ledger" not in text
    assert "Beside" not in text


@pytest.mark.parametrize(
    ("machine", "title"),
    [
        ({"accelerator": "a GPU", "cpu": "a CPU", "threads": 2}, "m on a GPU, 2 threads"),
        ({"accelerator": "", "cpu": "a CPU", "threads": 2}, "m on a CPU, 2 threads"),
        ({}, "m on cpu, ? threads"),
    ],
)
def test_the_title_says_where_it_was_measured(machine, title):
    report = Report(study(profile(), machine=machine, notes=("remember this",)))
    assert str(report).splitlines()[0] == title
    assert str(report).splitlines()[-1] == "- remember this"
    assert report.to_markdown().startswith(f"## {title}\n")
    assert report._repr_markdown_() == report.to_markdown()
