"""Proven cases that were timed all the same: what is kept of them, also in a file that is older than they are."""

import sqlite3
from contextlib import closing

from typer.testing import CliRunner

from perfsuite.cli.app import app
from perfsuite.history import append, audit_lines, audits, read, store
from perfsuite.spec import Audit
from tests.history.histories import CASE, run

RIGHT, WRONG = Audit(False, "latency changed by +0.1%"), Audit(True, "latency changed by +9%")


def older(path):
    """A file as version 1 wrote it, with one run."""
    with closing(sqlite3.connect(path)) as connection:
        for statement in store._schema(1):
            connection.execute(statement)
        connection.execute("PRAGMA user_version = 1")
        connection.execute("INSERT INTO runs VALUES ('run-old', '2026-07-01T00:00:00Z', 'abc', 'main', '0.1')")
        connection.commit()
    return path


def test_what_an_audit_has_shown_is_read_back_by_time(tmp_path):
    path = tmp_path / "history"
    append(path, run(2, audits={CASE: WRONG}))
    append(path, run(1, audits={CASE: RIGHT, "other": RIGHT}))
    found = audits(path)
    assert [(one.case, one.contradicts) for one in found] == [(CASE, False), ("other", False), (CASE, True)]
    assert (found[2].sentence, found[2].run, found[2].commit) == (WRONG.sentence, "run-00002", "0000002")


def test_a_file_of_the_first_version_is_read_and_has_no_audits(tmp_path):
    path = older(tmp_path / "history")
    assert read(path) == []
    assert audits(path) == []


def test_a_file_of_the_first_version_gets_its_table_when_a_run_is_appended(tmp_path):
    path = older(tmp_path / "history")
    append(path, run(1, audits={CASE: WRONG}))
    append(path, run(2))
    assert [one.contradicts for one in audits(path)] == [True]
    assert len(read(path)) == 2


def test_the_rate_and_each_contradiction_are_said(tmp_path):
    path = tmp_path / "history"
    append(path, run(1, audits={CASE: WRONG, "a": RIGHT, "b": RIGHT, "c": RIGHT}))
    first, second = audit_lines(audits(path))
    assert first == "4 proven cases timed all the same: 1 contradicted (25.0%)"
    assert second.endswith(f"{CASE}: latency changed by +9%")
    assert list(audit_lines(audits(path), "b")) == ["1 proven case timed all the same: 0 contradicted (0.0%)"]


def test_the_command_says_it_too(tmp_path):
    path = tmp_path / "history"
    append(path, run(1, audits={CASE: RIGHT}))
    done = CliRunner().invoke(app, ["history", "--file", str(path), "--audit"])
    assert done.output.startswith("1 proven case timed all the same: 0 contradicted")
    append(tmp_path / "none", run(1))
    assert (
        "no proven case has been timed"
        in CliRunner().invoke(app, ["history", "--file", str(tmp_path / "none"), "--audit"]).output
    )
