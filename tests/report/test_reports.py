import io
import re

import pytest

from perfsuite.errors import UnknownNameError
from perfsuite.protocols import Run
from perfsuite.registry import Registries
from perfsuite.report import terminal
from perfsuite.report.endings import reporter_of
from perfsuite.report.junit import properties
from perfsuite.report.numbers import Number, described, direction, number_of, numbers
from perfsuite.report.rows import cell, command_in, headline, metrics, remarks, rows, short, tally, visible
from perfsuite.spec import Direction, Status
from perfsuite.units import Unit
from tests.report.runs import EMPTY, HOSTILE, NOT_FINITE, RUN, compared_run, hostile_run, judged_run, verdict


def test_rows_are_worst_first():
    assert [row.case[0] for row in rows(RUN)] == ["c", "d", "b", "a"]
    assert metrics(RUN) == ["size", "latency"]
    assert tally(RUN) == "2 REGRESSED, 1 INCONCLUSIVE, 1 PASS"


def test_names_are_in_natural_order():
    names = ["m/fp32/cpu/b1", "m/fp32/cpu/b8", "m/fp32/cpu/b32", "m2/fp32/cpu/b1", "m10/fp32/cpu/b1"]
    found = rows(Run(tuple(verdict(name) for name in reversed(names)), {}))
    assert [row.case for row in found] == names


def test_what_was_only_measured_is_a_row_with_numbers():
    run = compared_run()
    first = rows(run)[0]
    assert (first.status, first.word, len(rows(run))) == (None, "measured", 15)
    assert metrics(run) == ["p50", "throughput", "speedup", "size", "accuracy"]
    assert [cell(first, name) for name in metrics(run)] == ["1 ms", "1,000/s", "1x", "4 MB", "97%"]
    mixed = Run((verdict("a/fp32/cpu/b1"),), {}, information=compared_run().information)
    assert rows(mixed)[0].word == "PASS"
    assert rows(mixed)[-1].word == "measured"
    assert metrics(mixed)[0] == "size"


def test_the_same_words_are_said_once():
    found = remarks(RUN.verdicts)
    assert [remark.cases for remark in found] == [("c/<script>|`x`/cpu/b1", "d/fp32/cpu/b1"), ("b/int8/cpu/b1",)]
    assert list(found[0].lines(shown=1)) == [
        "REGRESSED c/<script>|`x`/cpu/b1 and 1 more: size",
        "  size grew",
        "    operators: +1 a",
        "  remedy: accept it: pytest c",
        "  (and likewise the others)",
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
        ({"status": Status.RECORDED}, "1.2 kB"),
    ],
)
def test_cells(kwargs, text):
    assert short(verdict(**kwargs)) == text


@pytest.mark.parametrize(
    ("statuses", "text"),
    [
        ([Status.PASS, Status.REGRESSED, Status.NO_BASELINE], "1 of 3 limits regressed"),
        ([Status.REGRESSED], "1 limit regressed"),
        ([Status.INCONCLUSIVE, Status.NO_BASELINE], "1 of 2 limits without a baseline"),
        ([Status.NOT_MEASURED, Status.INCOMPARABLE, Status.PASS], "2 of 3 limits could not be judged"),
        ([Status.PASS, Status.IMPROVED, Status.RECORDED], "all 3 limits hold"),
        ([Status.PASS], "the limit holds"),
        ([], "nothing was judged"),
    ],
)
def test_the_headline_is_the_worst_news(statuses, text):
    assert headline(Run(tuple(verdict(status=status) for status in statuses), {})) == text


def test_what_was_measured_is_counted_where_nothing_is_judged():
    assert headline(compared_run()) == "15 cases measured"


def test_a_remedy_gives_its_command_to_be_copied():
    assert command_in("if so, accept it: pytest 'a: b'") == ("if so, accept it:", "pytest 'a: b'")
    assert command_in("measure longer (--perf-block-time, --perf-budget), or ask for less") == (
        "measure longer (--perf-block-time, --perf-budget), or ask for less",
        "",
    )
    assert command_in("note: read this") == ("note: read this", "")


@pytest.mark.parametrize(
    ("claims", "found"),
    [
        ({"sparsity": 0.5, "series": ("magnitude", 0.5)}, ("magnitude", 0.5)),
        ({"series": ["magnitude+bf16", 0]}, ("magnitude+bf16", 0.0)),  # as JSON has it
        ({"bits": 8}, None),
        ({"series": None}, None),
        ({"series": ["magnitude", 1.5]}, None),
        ({"series": ["magnitude", float("nan")]}, None),
        ({"series": ["magnitude", "0.5"]}, None),
        ({"series": 3}, None),
        ("sparse", None),
        (None, None),
    ],
)
def test_a_series_is_claimed(claims, found):
    """Not read from a name; and what a report from elsewhere claims is checked."""
    run = Run((), {}, information={"m/magnitude-50/cpu/b1": {"p50_ms": 1.0, "claims": claims}})
    assert [row.series for row in rows(run)] == [found]


def test_claims_are_for_programs():
    assert described({"claims": {"series": ("magnitude", 0.5)}, "p50_ms": 1.0}) == {"p50": "1 ms"}


def test_numbers_have_base_units_and_intervals():
    case = "m/int8-dynamic/cpu/b4"
    judged = (
        verdict(case, "latency", unit="seconds", measured=0.011, expected=0.01, change=1.1, low=1.05, high=1.2),
        verdict(case, "speedup", unit="ratio", limit=">=1.5", measured=2.0, expected=1.5, low=1.9, high=2.1),
        verdict(case, "size", measured=None),
    )
    shown = {"p50_ms": 10.5, "examples_per_s": 380.0, "size_bytes": 5, "note": "x", "accuracy": True, "flops": 10}
    found = numbers(Run(judged, {}, information={case: shown}), case, judged)
    assert found["latency"] == Number(0.011, Unit.SECONDS, pytest.approx(0.0105), pytest.approx(0.012))
    assert found["speedup"] == Number(2.0, Unit.RATIO, 1.9, 2.1)
    assert found["p50"] == Number(pytest.approx(0.0105), Unit.SECONDS)
    assert found["throughput"] == Number(380.0, Unit.PER_SECOND)
    assert found["size"] == Number(5, Unit.BYTES)
    assert found["flops"].unit is Unit.COUNT
    assert "accuracy" not in found
    assert "note" not in found


def test_what_is_not_finite_is_no_number():
    assert number_of(NOT_FINITE.verdicts[0]) is None
    assert numbers(NOT_FINITE, "a/fp32/cpu/b1") == {}


def test_information_is_told_with_units():
    shown = {"p50_ms": 1.5, "speedup": 2.0, "speedup_low": 1.9, "speedup_high": 2.1, "weights": "x", "parts": [1, 2],
             "share": 0.123456, "warmed_up": True}  # fmt: skip
    assert described(shown) == {
        "p50": "1.5 ms", "speedup": "2x (1.9x to 2.1x)", "weights": "x", "parts": "1 2", "share": "0.1235",
        "warmed_up": "True",
    }  # fmt: skip


def test_which_way_is_better():
    run = Run((), {}, better={"mine": Direction.HIGHER})
    assert direction(run, verdict(metric="mine")) is Direction.HIGHER
    assert direction(run, verdict(metric="accuracy")) is Direction.HIGHER
    assert direction(run, verdict(metric="latency")) is Direction.LOWER
    assert direction(run, verdict(metric="unknown", limit="<=3")) is Direction.LOWER
    assert direction(run, verdict(metric="unknown", limit=">=3")) is Direction.HIGHER
    assert direction(run, verdict(metric="unknown")) is None


def test_the_longest_ending_chooses_the_reporter():
    registry = Registries().reporters
    registry.register(".mine.md", lambda run: iter(["mine"]))
    assert next(reporter_of("a.mine.md", registry)(RUN)) == "mine"
    assert reporter_of("a.md", registry) is registry.get(".md")
    assert reporter_of("run.BENCHER.JSON", registry) is registry.get(".bencher.json")
    assert reporter_of("bencher.json", registry) is registry.get(".json")
    with pytest.raises(UnknownNameError, match=r"unknown reporter '\.docx'"):
        reporter_of("run.docx", registry)
    with pytest.raises(UnknownNameError, match="unknown reporter 'report'"):
        reporter_of("report", registry)


@pytest.mark.parametrize("ending", Registries().reporters.names())
@pytest.mark.parametrize(
    "run", [EMPTY, RUN, NOT_FINITE, compared_run(), judged_run(8), *map(hostile_run, HOSTILE[:-1])]
)
def test_every_reporter_takes_every_run(ending, run):
    written = list(reporter_of(f"run{ending}")(run))
    assert "\n".join(written).encode() or run is EMPTY
    assert written == list(reporter_of(f"run{ending}")(run))


def test_what_cannot_be_seen_is_written_out():
    assert visible("a\x1b[31m\x00\u202e\u2028\ud800\x85b") == r"a\x1b[31m\x00\u202e\u2028\ud800\x85b"
    assert visible("é π 模型\n\t") == "é π 模型\n\t"


def test_junit_properties_have_full_numbers_and_unique_names():
    judged = [
        verdict("k", "latency", Status.REGRESSED, "seconds", "5%", measured=0.1 + 0.2, change=1.2, sentence="slow\x00"),
        verdict("k", "size"),
        verdict("k#2", "latency", Status.NOT_MEASURED, "seconds", "5%", measured=None, expected=None),
    ]
    found = properties(judged)
    assert len(dict(found)) == len(found)
    assert dict(found).items() >= {
        ("perfsuite.latency", "REGRESSED"), ("perfsuite.latency.measured", "0.30000000000000004"),
        ("perfsuite.latency.change", "1.2"), ("perfsuite.latency.why", r"slow\x00"), ("perfsuite.latency.case", "k"),
        ("perfsuite.size", "PASS"), ("perfsuite.size.limit", "0%"), ("perfsuite.size.unit", "bytes"),
        ("perfsuite.latency#2", "NOT_MEASURED"), ("perfsuite.latency#2.case", "k#2"),
    }  # fmt: skip
    assert "perfsuite.size.why" not in dict(found)
    assert "perfsuite.latency#2.measured" not in dict(found)
    assert all(isinstance(part, str) for pair in found for part in pair)


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


SENTENCE = "size is 1.3 MB — accepted was 1.2 MB → worse by ±8%"
LONG = Run(
    (verdict("modèle/fp32/cpu/b1", status=Status.REGRESSED, sentence=SENTENCE,
             details=("operators: " + "+1 aten::clone, " * 9,), remedy="accept it: pytest " + "x" * 90),),
    {}, notes=("a long note " * 8,), information={"modèle/fp32/cpu/b1": {"weights": "π " * 60}},
)  # fmt: skip


def test_a_narrow_terminal_wraps_words_and_leaves_commands_whole():
    found = list(terminal.lines(LONG, width=40, more=True))
    commands = [line for line in found if "remedy:" in line]
    assert commands == [f"  remedy: accept it: pytest {'x' * 90}"]
    assert all(len(line) <= 40 for line in found if line not in commands)
    sentence = [line for line in found if line.startswith("  size is")]
    assert sentence == ["  size is 1.3 MB — accepted was 1.2 MB →"]


def test_piped_output_is_plain_and_whole():
    found = list(terminal.lines(LONG, width=80))
    assert f"  {SENTENCE}" in found
    assert any(len(line) > 80 for line in found)
    assert all(len(line) <= 80 for line in terminal.lines(LONG, width=80, colour=True) if "operators" in line)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8", "no-such-encoding"])
def test_a_stream_gets_only_what_it_can_carry(encoding):
    text = "\n".join(terminal.lines(LONG, width=40, more=True, encoding=encoding))
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8" if encoding.startswith("no") else encoding)
    stream.write(text)
    if encoding == "ascii":
        assert "size is 1.3 MB - accepted was 1.2 MB" in text
        assert "-> worse" in text.replace("\n ", "")
        assert r"mod\xe8le" in text
    if encoding == "utf-8":
        assert "modèle" in text


def test_a_dumb_terminal_keeps_its_width(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "500")
    found = list(terminal.lines(LONG, width=40))
    assert max(len(line) for line in found if "remedy" not in line) <= 40


@pytest.mark.parametrize("text", HOSTILE)
def test_no_name_commands_the_terminal(text):
    found = "\n".join(terminal.lines(hostile_run(text), width=60, more=True))
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", found)


def test_an_empty_run_is_no_error():
    assert list(terminal.lines(EMPTY)) == []
