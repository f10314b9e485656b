import json

import pytest

from perfsuite.protocols import Run
from perfsuite.report import as_json, markdown, terminal
from perfsuite.report.rows import metrics, remarks, rows, short, tally
from perfsuite.spec import Status, Verdict


def verdict(case="m/fp32/cpu/b1", metric="size", status=Status.PASS, unit="bytes", limit="0%", **kwargs):
    defaults = {"sentence": f"{metric} is judged", "measured": 1200.0, "expected": 1000.0}
    return Verdict(case, metric, unit, limit, status, **{**defaults, **kwargs})


RUN = Run(
    verdicts=(
        verdict("a/fp32/cpu/b1", measured=1000.0),
        verdict("b/int8/cpu/b1", "latency", Status.INCONCLUSIVE, "seconds", sentence="too uncertain"),
        verdict("c/<script>|`x`/cpu/b1", status=Status.REGRESSED, sentence="size grew", details=("operators: +1 a",),
                remedy="accept it: pytest c"),
        verdict("d/fp32/cpu/b1", status=Status.REGRESSED, sentence="size grew", details=("operators: +1 a",),
                remedy="accept it: pytest d"),
    ),
    machine={"cpu": "x", "accelerator": ""},
    notes=("a note",),
    information={"a/fp32/cpu/b1": {"p50_ms": 1.5}},
)  # fmt: skip


def test_rows_are_worst_first():
    assert [row.case[0] for row in rows(RUN)] == ["c", "d", "b", "a"]
    assert metrics(RUN) == ["size", "latency"]
    assert tally(RUN) == "2 REGRESSED, 1 INCONCLUSIVE, 1 PASS"


def test_the_same_words_are_said_once():
    found = remarks(RUN.verdicts)
    assert [remark.cases for remark in found] == [("c/<script>|`x`/cpu/b1", "d/fp32/cpu/b1"), ("b/int8/cpu/b1",)]
    assert list(found[0].lines(shown=1)) == [
        "REGRESSED c/<script>|`x`/cpu/b1 and 1 more: size",
        "  size grew",
        "    operators: +1 a",
        "  remedy: accept it: pytest c (and likewise the others)",
    ]


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({}, "+20.0%"),
        ({"measured": 1000.0}, "="),
        ({"measured": None}, "-"),
        ({"status": Status.NO_BASELINE, "expected": None}, "1.2 kB"),
        ({"limit": "<=2 kB"}, "1.2 kB"),
        ({"unit": "fraction", "measured": 0.96, "expected": 0.97}, "-1pp"),
        ({"unit": "count", "measured": 3, "expected": 0}, "3"),
    ],
)
def test_cells(kwargs, text):
    assert short(verdict(**kwargs)) == text


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_terminal_fits_and_loses_nothing(width):
    table = list(terminal.lines(RUN, width=width))
    first = table[: table.index("")]
    assert all(len(line) <= width for line in first)
    assert "".join(first).count("REGRESSED") == 2
    assert "2 REGRESSED, 1 INCONCLUSIVE, 1 PASS (limits over 4 cases)" in table
    assert table[-1] == "a note"
    assert "\x1b[" not in "".join(table)
    assert "\x1b[" in "".join(terminal.lines(RUN, width=width, colour=True))


def test_markdown_escapes_what_comes_from_outside():
    text = "\n".join(markdown.lines(RUN))
    assert "<script>" not in text
    row = next(line for line in text.splitlines() if line.startswith("| REGRESSED | c/"))
    assert row.replace("\\|", "").count("|") == 5
    assert "## perfsuite: 2 REGRESSED" in text
    assert text.count("<details>") == text.count("</details>") == 2


def test_json_is_complete_and_versioned():
    content = json.loads("\n".join(as_json.lines(RUN)))
    assert content["version"] == 1
    assert [v["status"] for v in content["verdicts"]] == ["PASS", "INCONCLUSIVE", "REGRESSED", "REGRESSED"]
    assert content["information"] == {"a/fp32/cpu/b1": {"p50_ms": 1.5}}


def test_an_empty_run_is_no_error():
    empty = Run((), {})
    assert list(terminal.lines(empty)) == []
    assert "nothing was judged" in next(iter(markdown.lines(empty)))
    assert json.loads("\n".join(as_json.lines(empty)))["verdicts"] == []
