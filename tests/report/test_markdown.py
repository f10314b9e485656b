import itertools
import re

import pytest
from markdown_it import MarkdownIt

from perfsuite.protocols import Run
from perfsuite.report import markdown
from perfsuite.report.rows import visible
from perfsuite.spec import Status
from tests.report.runs import EMPTY, HOSTILE, RUN, compared_run, hostile_run, judged_run, verdict


def written(run, **kwargs):
    return "\n".join(markdown.lines(run, **kwargs)) + "\n"


def tables(text):
    """Every table as a list of rows of cells, as a reader of GitHub's markdown renders them."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    found = []
    for token, following in itertools.pairwise(tokens):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type in ("th_open", "td_open"):
            assert {child.type for child in following.children} <= {"text", "text_special"}
            found[-1][-1].append("".join(child.content for child in following.children).replace("\u200b", ""))
    return found


def test_worst_first_and_what_passes_is_folded():
    text = written(RUN)
    urgent, calm = tables(text)
    assert [row[0] for row in urgent[1:]] == ["REGRESSED", "REGRESSED", "INCONCLUSIVE"]
    assert [row[:2] for row in calm[1:]] == [["PASS", "a/fp32/cpu/b1"]]
    assert text.index("<details><summary>1 case passes</summary>") < text.index("| PASS |")
    assert "## ❌ perfsuite: 2 of 4 limits regressed" in text
    assert text.count("<details>") == text.count("</details>") == 3
    assert "- remedy: accept it: (and likewise the others)\n\n```sh\npytest c\n```" in text


@pytest.mark.parametrize(
    ("status", "icon"),
    [(Status.REGRESSED, "❌"), (Status.NO_BASELINE, "❌"), (Status.INCONCLUSIVE, "⚠️"), (Status.PASS, "✅")],
)
def test_the_heading_shows_how_it_went(status, icon):
    assert f"## {icon} perfsuite" in written(Run((verdict(status=status), verdict()), {}))


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_breaks_the_table_or_becomes_markup(text):
    run = hostile_run(text)
    found = written(run)
    for table in tables(found):
        assert {len(row) for row in table} == {4}
    urgent = tables(found)[0]
    case = visible(run.verdicts[0].case).replace("\n", " ")
    assert urgent[1][1] == markdown.clip(case)
    assert not re.search(r"<(?!/?(details|summary|b|code)>|!-- perfsuite -->)", without_commands(found))
    prose = "\n".join(line for line in found.splitlines() if not line.startswith("<"))
    assert not re.search("<(script|img|a|em|strong|del|svg)[ >]", MarkdownIt().enable("strikethrough").render(prose))


def without_commands(text):
    return re.sub(r"(```+)sh\n.*?\n\1\n", "", text)


def test_nobody_is_called():
    text = written(hostile_run("@octocat and owner/repo#1"))
    outside_code = re.sub(r"<code>.*?</code>", "", without_commands(text))
    assert "@octocat" not in outside_code
    assert "#1" not in outside_code.replace(r"\#1", "")


@pytest.mark.parametrize("ticks", ["`", "```", "``````"])
def test_a_command_cannot_close_its_block(ticks):
    run = Run((verdict(status=Status.REGRESSED, remedy=f"accept: pytest {ticks}\n{ticks}\n<b>"),), {})
    blocks = [token.content for token in MarkdownIt().parse(written(run)) if token.type == "fence"]
    assert blocks == [f"pytest {ticks} {ticks} <b>\n"]


def cases_in(text):
    return [row[1] for table in tables(text) for row in table[1:]]


@pytest.mark.parametrize(
    ("count", "limit"),
    [(10, 65_536), (1_000, 12_000), (1_000, markdown.COMMENT_BYTES), (2_500, markdown.STEP_SUMMARY_BYTES)],
)
def test_it_fits_and_says_what_was_left_out(limit, count):
    chance = [Status.PASS] * 97 + [Status.REGRESSED, Status.IMPROVED, Status.INCONCLUSIVE]
    run = Run(
        tuple(
            verdict(f"model_{i}/fp32/cpu/b1", name, chance[i % 100], sentence=f"{name} of {i}", details=("é" * 300,))
            for i in range(count)
            for name in ("size", "operators", "latency")
        ),
        {"cpu": "é" * 3_000}, notes=("note " * 500,),
    )  # fmt: skip
    text = written(run, limit_bytes=limit)
    assert len(text.encode()) <= limit
    kept = cases_in(text)
    statuses = [row[0] for table in tables(text) for row in table[1:]]
    said = re.search(r"\*\*(\d+) of (\d+) cases are left out", text)
    assert len(kept) + (int(said[1]) if said else 0) == count
    assert (said is None) == (len(kept) == count)
    assert statuses.count("REGRESSED") == sum(chance[i % 100] is Status.REGRESSED for i in range(count))
    assert all(line.endswith("|") for line in text.splitlines() if line.startswith("|"))
    assert text.count("<details>") == text.count("</details>")
    remarks = text.count("<details><summary><b>")
    left = re.search(r"\*\*(\d+) of (\d+) remarks are left out", text)
    assert remarks + (int(left[1]) if left else 0) == len(
        {v.sentence for v in run.verdicts if v.status is not Status.PASS}
    )


def test_more_regressions_than_fit_are_counted():
    run = Run(tuple(verdict(f"m{i}/fp32/cpu/b1", status=Status.REGRESSED) for i in range(3_000)), {})
    text = written(run)
    assert len(text.encode()) <= markdown.COMMENT_BYTES
    said = re.search(r"\*\*(\d+) of 3000 cases are left out here\*\* \((\d+) REGRESSED\)", text)
    assert int(said[1]) == int(said[2]) == 3_000 - len(cases_in(text))


def test_a_long_name_loses_its_middle():
    name = "begin" + "x" * 600 + "end/fp32/cpu/b1"
    shown = cases_in(written(Run((verdict(name),), {})))[0]
    assert shown.startswith("begin")
    assert shown.endswith("end/fp32/cpu/b1")
    assert "…" in shown


def test_what_was_only_measured_is_one_table():
    (table,) = tables(written(compared_run()))
    assert table[0] == ["verdict", "case", "p50", "throughput", "speedup", "size", "accuracy"]
    assert len(table) == 16


def test_where_the_run_was():
    text = written(judged_run(4))
    assert "- commit f1056d1 2026-11-21T18:20:00+00:00" in text
    assert "- machine: cpu x, cores 2" in text
    assert "nothing was judged" in written(EMPTY)
