"""What commands share: merging runs, writing to streams that take little, places, and how a command ends."""

import io
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from perfsuite import errors
from perfsuite.baseline.remote import location
from perfsuite.cli import machine, output
from perfsuite.cli.app import app, main, status_of
from perfsuite.history import append
from perfsuite.measure.clock import SimulatedClock
from perfsuite.protocols import Run
from perfsuite.report import as_json
from perfsuite.spec import Direction, Status
from tests.history.histories import CASE, LATENCY
from tests.history.histories import run as kept
from tests.report.runs import verdict

CASES = st.sampled_from(["a/fp32/cpu/b1", "b/fp32/cpu/b1", "c/fp32/cpu/b1"])
NUMBERS = st.dictionaries(st.sampled_from(["p50_ms", "size_bytes"]), st.integers(0, 9), min_size=1)
RUNS = st.builds(
    Run,
    verdicts=st.lists(CASES.map(verdict), max_size=3).map(tuple),
    machine=st.builds(lambda cpu: {"cpu": cpu}, st.sampled_from("xy")),
    notes=st.lists(st.sampled_from(["one", "two", "three"]), max_size=3, unique=True).map(tuple),
    information=st.dictionaries(CASES, NUMBERS, max_size=3),
    samples=st.dictionaries(CASES, st.just(((1.0, 2.0),)), max_size=2),
    operators=st.dictionaries(CASES, st.just({"aten::add": (1, 2)}), max_size=2),
    better=st.dictionaries(st.sampled_from(["size", "latency"]), st.sampled_from(Direction), max_size=2),
    commit=st.sampled_from(["abc", "def"]),
    created=st.sampled_from(["2026-01-01T00:00:00+00:00", "2026-01-02T00:00:00+00:00"]),
)


def invoke(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)])


@given(RUNS)
def test_one_run_merged_is_itself(run):
    assert output.merged([run]) == run


@given(RUNS, RUNS, RUNS)
def test_merging_some_first_changes_nothing(one, two, three):
    assert output.merged([output.merged([one, two]), three]) == output.merged([one, two, three])


@given(RUNS, RUNS)
def test_every_verdict_of_each_run_is_kept_and_the_last_ones_numbers_win(one, two):
    found = output.merged([one, two])
    assert found.verdicts == one.verdicts + two.verdicts
    assert set(found.notes) == {*one.notes, *two.notes}
    assert len(found.notes) == len(set(found.notes))
    for field in ("information", "samples", "operators", "better"):
        assert getattr(found, field) == {**getattr(one, field), **getattr(two, field)}
    assert (found.commit, found.created, found.machine) == (one.commit, one.created, one.machine)


def written(path, *verdicts):
    path.write_text("\n".join(as_json.lines(Run(verdicts, {}))))
    return path


@pytest.mark.parametrize("status", list(Status))
def test_a_report_ends_with_1_exactly_if_a_verdict_in_any_of_its_files_fails(tmp_path, status):
    calm = written(tmp_path / "calm.json", verdict())
    other = written(tmp_path / "other.json", verdict("z/fp32/cpu/b1", status=status))
    for files in ((calm, other), (other, calm)):
        assert invoke("report", *files).exit_code == status.fails()
    assert (
        "z/fp32/cpu/b1"
        in invoke("report", calm, other, "-o", tmp_path / "all.md").output + (tmp_path / "all.md").read_text()
    )


def test_a_report_in_a_file_is_not_shown_as_well(tmp_path):
    path = written(tmp_path / "run.json", verdict())
    assert invoke("report", path, "-o", tmp_path / "new" / "run.md").output == f"written: {tmp_path}/new/run.md\n"


@pytest.mark.parametrize(
    ("content", "words"), [("", "run.json"), ("[1]", "run.json"), ('{"version": 99}', "run.json"), ("\0", "run.json")]
)
def test_a_file_that_is_no_report_is_named(tmp_path, content, words):
    (tmp_path / "run.json").write_text(content)
    refused = invoke("report", tmp_path / "run.json").exception
    assert isinstance(refused, errors.PerfsuiteError)
    assert words in refused.what
    assert refused.remedy


def test_an_ending_is_checked_before_a_file_is_read(tmp_path):
    refused = invoke("report", tmp_path / "missing.json", "-o", "run.docx").exception
    assert "unknown reporter '.docx'" in refused.what


@pytest.fixture
def histories(tmp_path):
    """Two branches and two metrics of one case, and another case."""
    path = tmp_path / "runs.sqlite"
    for number in range(4):
        append(path, kept(number, branch="main" if number % 2 else "topic"))
    return path


def test_a_history_is_narrowed_by_metric_and_branch(histories):
    assert CASE in invoke("history", CASE, "-f", histories).output
    assert CASE in invoke("history", "encoder-*", "-f", histories, "--branch", "main").output
    for option, other in (("--metric", "size"), ("--branch", "elsewhere")):
        done = invoke("history", CASE, "-f", histories, option, other)
        assert LATENCY["metric"] not in done.output.partition("\n")[2]
        assert done.exit_code or CASE not in done.output


def test_a_terminal_of_ascii_gets_ascii(histories, monkeypatch):
    monkeypatch.setattr("perfsuite.cli.files.is_ascii", lambda: True)
    assert invoke("history", CASE, "-f", histories).output.isascii()


@pytest.mark.parametrize(("encoding", "ascii_only"), [("ascii", True), ("latin-1", True), ("utf-8", False)])
def test_what_a_stream_cannot_encode_becomes_plain(monkeypatch, encoding, ascii_only):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    assert output.is_ascii() is ascii_only
    output.say("a █ é")
    sys.stdout.flush()
    assert raw.getvalue().decode(encoding).rstrip("\n") == {
        "ascii": "a ? ?", "latin-1": "a ? é", "utf-8": "a █ é",
    }[encoding]  # fmt: skip


def test_a_place_is_told_as_it_is_seen_from_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert output.near(tmp_path / "kept") == Path("kept")
    assert output.near(tmp_path.parent / "kept") == tmp_path.parent / "kept"
    remote = location("memory://bucket/kept", tmp_path)
    assert output.near(remote) is remote


def test_lines_are_as_wide_as_the_terminal_and_a_hundred_letters_without_one(monkeypatch):
    monkeypatch.setenv("COLUMNS", "57")
    assert output.width() == 57
    monkeypatch.delenv("COLUMNS")
    monkeypatch.setattr(os, "get_terminal_size", lambda *_: (_ for _ in ()).throw(OSError()))
    assert output.width() == 100


MEASURED = (errors.ModelError, errors.TechniqueError, errors.EngineError)
KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.PerfsuiteError)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_of_ours_ends_a_command_with_its_message_and_2_or_3(monkeypatch, capsys, kind):
    error = kind("noun", "name", ["known"]) if kind is errors.UnknownNameError else kind("it broke", "mend it")

    def broken():
        raise error

    monkeypatch.setattr("perfsuite.cli.app.app", broken)
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert said.err == f"perfsuite: {error}\n"
    assert said.out == ""
    assert ended.value.code == status_of(error) == (3 if issubclass(kind, MEASURED) else 2)


def test_what_is_not_raised_on_purpose_is_not_hidden(monkeypatch):
    monkeypatch.setattr("perfsuite.cli.app.app", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main()


@pytest.mark.parametrize(
    ("durations_ms", "best"),
    [
        ([1, 300, 200, 400, 900], 0.2),  # the first call warms up, and the last one ends after the second is over
        ([500, 5000], 5.0),  # one call is timed, however long it takes
        ([100] * 20, 0.1),
    ],
)
def test_a_peak_is_the_fastest_call_within_a_second_after_a_first_one(durations_ms, best):
    clock, left = SimulatedClock(), list(durations_ms)

    def call():
        clock.advance_ns(left.pop(0) * 1_000_000)

    assert machine._best_s(call, clock) == pytest.approx(best)
    assert clock.now_ns() - durations_ms[0] * 1e6 >= 1e9
