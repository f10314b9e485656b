"""The history of runs: one SQLite file, which any SQLite tool, DuckDB and pandas can query.

SQLite, from the standard library, because it appends in a transaction (Parquet files are written
whole) and locks for two runs at once, in one file. Behind a URL the file is read whole and written
whole: of two runs that append there at the same moment, the later one wins.

History of the version (SQLite's ``user_version``; ``application_id`` says that it is a perfsuite history):
    1   first: tables runs and measurements, view history of both.
    2   table audits: proven cases that were timed all the same. A file of version 1 gets it when a run is appended.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from perfsuite.baseline.remote import Location, location
from perfsuite.errors import HistoryError
from perfsuite.files import check_regular
from perfsuite.history.record import Audited, Row, RunRecord
from perfsuite.temporary import temporary_folder

VERSION = 2
APPLICATION_ID = 0x70657266  # "perf"
MAX_REMOTE_BYTES = 2**30
_LOCK_TIMEOUT_S = 60.0
_NUMBERS = frozenset({"value", "low", "high", "p50_ms"})
_RUN = ("run_id", "time", "commit_id", "branch", "version")
_MEASURED = tuple(name for name in Row.__struct_encode_fields__ if name not in _RUN)
_DAMAGED = frozenset({"SQLITE_NOTADB", "SQLITE_CORRUPT"})


def _schema(version: int = VERSION) -> Iterator[str]:
    columns = ", ".join(f"{name} REAL" if name in _NUMBERS else f"{name} TEXT NOT NULL" for name in _MEASURED)
    yield (
        "CREATE TABLE runs (run_id TEXT PRIMARY KEY, time TEXT NOT NULL, commit_id TEXT NOT NULL, "
        "branch TEXT NOT NULL, version TEXT NOT NULL)"
    )
    yield f"CREATE TABLE measurements (run_id TEXT NOT NULL REFERENCES runs, {columns})"
    yield "CREATE INDEX measurements_of_case ON measurements (case_key, metric)"
    yield "CREATE VIEW history AS SELECT * FROM runs JOIN measurements USING (run_id)"
    yield f"PRAGMA application_id = {APPLICATION_ID}"
    if version > 1:
        yield from _FROM_1_TO_2


_FROM_1_TO_2 = (
    "CREATE TABLE audits (run_id TEXT NOT NULL REFERENCES runs, case_key TEXT NOT NULL, "
    "contradicts INTEGER NOT NULL, sentence TEXT NOT NULL)",
    "PRAGMA user_version = 2",
)


def append(where: str | Location, run: RunRecord) -> None:
    """Add a run: all of it, or nothing. The file is made if it is missing.

    Raises HistoryError, and leaves the file as it was, if it is no history or cannot be written.
    """
    place = location(where)
    if isinstance(place, Path):
        _append(place, place, run)
        return
    with _local_copy(place, may_be_new=True) as copy, _explained(place):
        _append(copy, place, run)
        place.write(copy.read_bytes())


def read(
    where: str | Location, case: str | None = None, metric: str | None = None, machine: str | None = None,
    branch: str | None = None,
) -> list[Row]:  # fmt: skip
    """All rows, or those of a case, metric, machine class or branch; by time. Raises HistoryError."""
    wanted = {"case_key": case, "metric": metric, "machine_id": machine, "branch": branch}
    chosen = {name: value for name, value in wanted.items() if value is not None}
    conditions = " AND ".join(f"{name} = :{name}" for name in chosen) or "1"
    with _opened(where) as connection:
        found = connection.execute(f"SELECT * FROM history WHERE {conditions}", chosen)
        names = [column[0] for column in found.description]
        rows = [msgspec.convert(dict(zip(names, values, strict=True)), Row) for values in found]
    return sorted(rows, key=lambda row: (row.time, row.run))


def audits(where: str | Location) -> list[Audited]:
    """Every proven case that was timed all the same, the oldest first. Raises HistoryError."""
    with _opened(where) as connection:
        if _pragmas(connection)[1] < 2:
            return []
        found = connection.execute(
            "SELECT case_key, contradicts, sentence, run_id, time, commit_id FROM audits JOIN runs USING (run_id) "
            "ORDER BY time, run_id"
        )
        return [Audited(case, bool(contradicts), *rest) for case, contradicts, *rest in found]


def cases(where: str | Location) -> list[str]:
    """Every case in the history, by name. Raises HistoryError."""
    with _opened(where) as connection:
        return [str(name) for (name,) in connection.execute("SELECT DISTINCT case_key FROM measurements ORDER BY 1")]


def _append(path: Path, place: Location, run: RunRecord) -> None:
    """``place`` is what messages call the file."""
    with _explained(place):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            check_regular(path)
        with closing(_connect(path, "rwc")) as connection, _transaction(connection):
            if _is_new(connection):
                for statement in _schema():
                    connection.execute(statement)
            _check(connection, place)
            if _pragmas(connection)[1] == 1:
                for statement in _FROM_1_TO_2:
                    connection.execute(statement)
            _insert(connection, run)


def _insert(connection: sqlite3.Connection, run: RunRecord) -> None:
    encoded = msgspec.to_builtins(run)
    connection.execute(f"INSERT INTO runs VALUES ({', '.join(f':{name}' for name in _RUN)})", encoded)
    values = ", ".join(f":{name}" for name in ("run_id", *_MEASURED))
    connection.executemany(
        f"INSERT INTO measurements VALUES ({values})",
        [{"run_id": run.run, **measurement} for measurement in encoded["measurements"]],
    )
    connection.executemany(
        "INSERT INTO audits VALUES (?, ?, ?, ?)",
        [(run.run, case, audit.contradicts, audit.sentence) for case, audit in run.audits.items()],
    )


@contextmanager
def _opened(where: str | Location) -> Iterator[sqlite3.Connection]:
    place = location(where)
    with _local_copy(place) as path, _explained(place):
        if not path.exists():
            raise HistoryError(f"there is no history {place}", "record one first, or name another file")
        check_regular(path)
        # Opened for writing, too, so that SQLite can roll back what a crash left.
        with closing(_connect(path, "rw")) as connection:
            _check(connection, place)
            yield connection


@contextmanager
def _local_copy(place: Location, may_be_new: bool = False) -> Iterator[Path]:
    """The file itself, or a temporary copy of what the URL has now (a path without a file, if it has none)."""
    if isinstance(place, Path):
        yield place
        return
    with temporary_folder("history") as folder, _explained(place):
        data = place.read(MAX_REMOTE_BYTES)
        if data is not None and len(data) > MAX_REMOTE_BYTES:
            raise HistoryError(f"history {place} is larger than {MAX_REMOTE_BYTES} bytes", "start a new one")
        copy = folder / "history.sqlite"
        if data is not None:
            copy.write_bytes(data)
        yield copy


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=_LOCK_TIMEOUT_S, isolation_level=None)


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _is_new(connection: sqlite3.Connection) -> bool:
    return not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] and _pragmas(connection) == (0, 0)


def _pragmas(connection: sqlite3.Connection) -> tuple[int, int]:
    found = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
    return found[0], found[1]


def _check(connection: sqlite3.Connection, place: Location) -> None:
    application, version = _pragmas(connection)
    if application != APPLICATION_ID:
        raise HistoryError(f"{place} is a database, but no perfsuite history", "name another file")
    if not 1 <= version <= VERSION:
        raise HistoryError(
            f"history {place} has version {version}, this perfsuite reads versions 1 to {VERSION}",
            "upgrade perfsuite" if version > VERSION else "start a new history",
        )
    _check_schema(connection, place, version)
    if connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
        raise sqlite3.DatabaseError("its pages do not fit together")


def _check_schema(connection: sqlite3.Connection, place: Location, version: int) -> None:
    """Our objects must be complete, and nothing may change what is written. Others may add views and indexes."""
    with closing(sqlite3.connect(":memory:")) as model:
        for statement in _schema(version):
            model.execute(statement)
        wanted = _objects(model)
    found = _objects(connection)
    missing = {name for name, _ in wanted - found}
    foreign = {name for name, _ in found - wanted if name.startswith(("table", "trigger"))} - missing
    if missing or foreign:
        wrong = [f"{name} is missing or another one" for name in sorted(missing)]
        wrong += [f"{name} is not ours" for name in sorted(foreign)]
        raise HistoryError(
            f"history {place} has another schema: {'; '.join(wrong)}",
            "restore it, name another file, or start a new one",
        )


def _objects(connection: sqlite3.Connection) -> set[tuple[str, str]]:
    """Kind and name of each object, and the statement that made it; those of SQLite itself are left out."""
    found = connection.execute(
        "SELECT type || ' ' || name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    )
    return {(str(name), str(sql)) for name, sql in found}


@contextmanager
def _explained(place: Location) -> Iterator[None]:
    """Turn whatever goes wrong with the file into a HistoryError."""
    try:
        yield
    except (sqlite3.Error, msgspec.ValidationError, UnicodeError, OSError) as error:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith("SQLITE_BUSY"):
            what, remedy = f"history {place} is locked by another process", "wait for it, then run again"
        elif name.startswith("SQLITE_CONSTRAINT_PRIMARYKEY"):
            what, remedy = f"history {place} has this run already", "append each run once"
        elif isinstance(error, OSError) or (isinstance(error, sqlite3.OperationalError) and name not in _DAMAGED):
            what = f"history {place} cannot be used: {error}"
            remedy = getattr(error, "remedy", "check the path, permissions and free space")
        else:
            what, remedy = (
                f"{place} is not a perfsuite history, or damaged: {error}",
                "restore it, or name another file",
            )
        raise HistoryError(what, remedy) from error
