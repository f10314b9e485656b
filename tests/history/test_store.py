import multiprocessing
import os
import resource
import sqlite3
import sys
import tempfile
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfsuite.history import HistoryError, Measurement, append, cases, read, store
from tests.history.histories import CASE, LATENCY, SIZE, run


@pytest.fixture
def path(tmp_path):
    return tmp_path / "made" / "by need" / "history #1.sqlite"


def test_what_is_appended_is_read_back_by_time(path):
    measured = (Measurement(**LATENCY, value=1.25, low=1.2, high=1.3), Measurement(**SIZE, value=2**40 + 1))
    append(path, run(2, *measured, commit="abc+changes"))
    append(path, run(1))
    found = read(path)
    assert [row.run for row in found] == ["run-00001", "run-00002", "run-00002"]
    assert (found[1].time, found[1].commit, found[1].branch) == (run(2).time, "abc+changes", "main")
    assert [(row.metric, row.value, row.low, row.high, row.p50_ms) for row in found[1:]] == [
        ("latency", 1.25, 1.2, 1.3, 1.5), ("size", 2**40 + 1, None, None, None),
    ]  # fmt: skip
    assert list(path.parent.iterdir()) == [path]


def test_reading_can_choose(path):
    other = Measurement(**{**SIZE, "case": "other", "machine": "m2"}, value=3)
    append(path, run(1, Measurement(**LATENCY, value=1.0), other))
    append(path, run(2, branch="topic"))
    assert cases(path) == [CASE, "other"]
    assert [row.metric for row in read(path, case="other")] == ["size"]
    assert len(read(path, metric="latency")) == 2
    assert len(read(path, machine="m2", metric="size")) == 1
    assert [row.run for row in read(path, branch="topic")] == ["run-00002"]
    assert read(path, case="' OR 1=1 --") == []


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), st.floats(allow_nan=False, allow_infinity=False))
def test_any_name_and_number_survive_the_file(text, value):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "h"
        append(path, run(0, Measurement(**{**SIZE, "case": text, "limit": text}, value=value), branch=text))
        (row,) = read(path, case=text)
    assert (row.case, row.limit, row.branch, row.value) == (text, text, text, value)


@pytest.mark.parametrize(
    ("like", "wrong"),
    [
        (SIZE, {"value": float("nan")}),
        (SIZE, {"value": 1.0, "low": float("-inf")}),
        (LATENCY, {"value": float("nan")}),
        (LATENCY, {"value": 0.0}),
        (LATENCY, {"value": 1.0, "p50_ms": -1.0}),
        (LATENCY, {"kind": "guessed"}),
        (LATENCY, {"better": "sideways"}),
    ],
)
def test_what_cannot_be_compared_is_never_kept(like, wrong):
    with pytest.raises(ValueError, match=f"{like['metric']} of encoder-small"):
        Measurement(**{**like, **wrong})


def test_a_run_is_in_utc():
    with pytest.raises(ValueError, match="in UTC"):
        store.RunRecord(run="r", time=datetime(2026, 1, 1), version="1", measurements=())


def test_the_same_run_twice_is_an_error_and_changes_nothing(path):
    append(path, run(1))
    before = path.read_bytes()
    with pytest.raises(HistoryError, match="has this run already"):
        append(path, run(1))
    assert path.read_bytes() == before


def test_other_tools_read_it(path):
    """The names in docs/history.md, through plain SQL."""
    append(path, run(3))
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT run_id, time, case_key, metric, kind, unit, value, p50_ms, status, limit_text FROM history"
        assert connection.execute(query).fetchall() == [
            ("run-00003", "2026-08-01T03:00:00Z", CASE, "latency", "sampled", "ratio", 1.25, 1.5, "PASS", "5%")
        ]


def _append_many(path, prefix):
    for number in range(15):
        append(path, msgspec.structs.replace(run(number), run=f"{prefix}-{number}"))


def test_runs_that_append_at_once_lose_nothing(path):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_append_many, args=(str(path), name)) for name in "abc"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len({row.run for row in read(path)}) == 45
    assert list(path.parent.iterdir()) == [path]


def _database(*statements):
    def make(path):
        with closing(sqlite3.connect(path)) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.commit()

    return make


def _history(*statements):
    def make(path):
        append(path, run(0))
        _database(*statements)(path)

    return make


def _long(path):
    append(path, run(0, *(Measurement(**{**SIZE, "case": f"case-{number}"}, value=1.0) for number in range(500))))
    return path.read_bytes()


def _truncated(path):
    path.write_bytes(_long(path)[:9000])


def _damaged_inside(path):
    """The header and the schema are sound, and so is where the next row would go."""
    data, page = _long(path), 4096
    middle = len(data) // page // 2 * page
    path.write_bytes(data[:middle] + bytes(page) + data[middle + page :])


BROKEN = {
    "text": (lambda path: path.write_text("not a database, but long enough to have a header" * 9), "not a perfsuite"),
    "truncated": (_truncated, "not a perfsuite history, or damaged"),
    "damaged inside": (_damaged_inside, "not a perfsuite history, or damaged"),
    "foreign": (_database("CREATE TABLE runs (id)"), "no perfsuite history"),
    "future": (
        _database(f"PRAGMA application_id = {store.APPLICATION_ID}", "PRAGMA user_version = 7"),
        "has version 7, this perfsuite reads versions 1 to 2",
    ),
    "a table more": (_history("CREATE TABLE notes (text)"), "table notes is not ours"),
    "a trigger": (
        _history("CREATE TRIGGER t BEFORE INSERT ON measurements BEGIN SELECT RAISE(IGNORE); END"),
        "trigger t is not ours",
    ),
    "a column less": (
        _history("DROP VIEW history", "ALTER TABLE measurements DROP COLUMN low"),
        "table measurements is missing or another one; view history is missing",
    ),
    "a FIFO": (os.mkfifo, "it is a FIFO, not a regular file"),
    "a folder": (Path.mkdir, "cannot be used"),
}


@pytest.mark.parametrize(("spoil", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_a_file_that_is_no_history_is_refused_and_left_alone(tmp_path, spoil, message):
    path = tmp_path / "h"
    spoil(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(HistoryError, match=message) as error:
        append(path, run(99))
    assert "h" in error.value.what
    assert error.value.remedy
    with pytest.raises(HistoryError):
        read(path)
    assert (path.read_bytes() if path.is_file() else None) == before
    assert list(tmp_path.iterdir()) == [path]


def test_an_index_or_a_view_of_others_is_let_be(path):
    _history("CREATE INDEX mine ON measurements (status)", "CREATE VIEW v AS SELECT 1", "ANALYZE")(_made(path))
    append(path, run(1))
    assert len(read(path)) == 2


def _made(path):
    path.parent.mkdir(parents=True)
    return path


@pytest.mark.parametrize(
    "change",
    [
        "measurements SET value = 'rm -rf'", "measurements SET better = 'sideways'", "measurements SET value = 9e999",
        "measurements SET value = 1e301", "measurements SET p50_ms = 5e-324", "runs SET time = '2026-01-01T00:00:00'",
    ],
)  # fmt: skip
def test_a_row_that_nobody_here_has_written_is_refused(path, change):
    append(path, run(1))
    _database(f"UPDATE {change}")(path)
    with pytest.raises(HistoryError, match="damaged"):
        read(path)


def test_no_history_yet(tmp_path):
    with pytest.raises(HistoryError, match="there is no history"):
        read(tmp_path / "none.sqlite")
    assert not list(tmp_path.iterdir())


def test_an_empty_file_becomes_a_history(tmp_path):
    """As mktemp leaves it, and a run that died before its first byte."""
    path = tmp_path / "h"
    path.touch()
    append(path, run(1))
    assert len(read(path)) == 1


def _append_with_little_room(path, room):
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
    many = [Measurement(**{**SIZE, "case": f"case-{number}" * 30}, value=1.0) for number in range(500)]
    try:
        append(path, run(2, *many))
    except HistoryError as error:
        sys.exit(0 if "cannot be used" in str(error) and "free space" in str(error) else 3)
    sys.exit(4)


def test_a_full_disk_leaves_the_file_as_it_was(path):
    """The system refuses to let the file grow, as a full disk does."""
    append(path, run(1))
    before = path.read_bytes()
    writer = multiprocessing.get_context("spawn").Process(
        target=_append_with_little_room, args=(path, len(before) + 4096)
    )
    writer.start()
    writer.join()
    assert writer.exitcode == 0
    assert path.read_bytes() == before
    assert len(read(path)) == 1


@contextmanager
def _without_rights():
    """Root may write everything: become nobody for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs POSIX permissions")
def test_what_may_not_be_written_can_still_be_read():
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "h"
        append(path, run(1))
        path.chmod(0o444)
        Path(name).chmod(0o555)
        before = path.read_bytes()
        with _without_rights():
            for place in (path, Path(name) / "new"):
                with pytest.raises(HistoryError, match="cannot be used") as error:
                    append(place, run(2))
                assert "permissions" in error.value.remedy
            assert len(read(path)) == 1
        assert path.read_bytes() == before
        Path(name).chmod(0o755)


def test_a_locked_history_says_so(path, monkeypatch):
    append(path, run(1))
    monkeypatch.setattr(store, "_LOCK_TIMEOUT_S", 0.05)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(HistoryError, match="locked by another process"):
            append(path, run(2))
        assert len(read(path)) == 1


def test_a_url_holds_a_history_too():
    pytest.importorskip("fsspec", reason="URLs need fsspec")
    url = "memory://histories/here.sqlite"
    append(url, run(1))
    append(url, run(2))
    assert [row.run for row in read(url)] == ["run-00001", "run-00002"]
    assert cases(url) == [CASE]


def test_a_url_with_something_else_is_refused_and_left_alone():
    fsspec = pytest.importorskip("fsspec", reason="URLs need fsspec")
    files = fsspec.filesystem("memory")
    files.pipe_file("/histories/foreign", b"anything" * 100)
    with pytest.raises(HistoryError, match="memory://histories/foreign is not a perfsuite history"):
        append("memory://histories/foreign", run(1))
    assert files.cat_file("/histories/foreign") == b"anything" * 100
    with pytest.raises(HistoryError, match="there is no history memory://histories/none"):
        read("memory://histories/none")
