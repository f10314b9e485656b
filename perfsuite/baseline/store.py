"""Baselines in a folder or behind a URL: one JSON file for each model, that a person can review in a diff.

Writing is read, merge, write whole, rename, under a lock: two processes that write at once lose
nothing, and a write that fails midway leaves the old file. Behind a URL there is no lock: of two
that write at once, the later one wins, and the file is whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import msgspec
import platformdirs
from filelock import FileLock, Timeout

from perfsuite.baseline.conflicts import has_markers
from perfsuite.baseline.identity import differing
from perfsuite.baseline.machine import Machine
from perfsuite.baseline.remote import Location, Remote
from perfsuite.baseline.schema import VERSION, BaselineFile, Entry
from perfsuite.errors import BaselineError
from perfsuite.files import read_regular, write_whole

MAX_FILE_BYTES = 64 * 2**20
_LOCK_TIMEOUT_S = 60
_LONGEST_STEM = 200  # of 255 bytes that a file system takes: a temporary name is longer
_TEMPORARY = re.compile(r"\.(.+\.json)-[a-z0-9_]{8}\.tmp")  # as perfsuite.files.replacing names them, and mkstemp did


class Store:
    """A folder of baselines."""

    def __init__(self, folder: Location) -> None:
        self.folder = folder

    def path_of(self, group: str) -> Location:
        """The file of a group: its name with everything unusual in a file name replaced."""
        return self.folder / f"{_stem(group)}.json"

    def entry(self, group: str, key: str) -> Entry | None:
        """What is stored for a case, or None. Raises BaselineError for a file that cannot be trusted."""
        return self.read(self.path_of(group)).cases.get(key)

    def case_keys(self) -> Iterator[str]:
        """Every case key in the folder."""
        for path in self._files():
            yield from self.read(path).cases

    def read(self, path: Location) -> BaselineFile:
        """Raises BaselineError for a file that is broken, hostile or from the future. The file is never changed."""
        try:
            data = path.read(MAX_FILE_BYTES) if isinstance(path, Remote) else _read(path, MAX_FILE_BYTES)
        except OSError as error:
            raise _failed(path, "read", error, _remedy(path)) from error
        if data is None:
            return BaselineFile()
        if len(data) > MAX_FILE_BYTES:
            raise BaselineError(f"baseline {path} is larger than {MAX_FILE_BYTES} bytes", _remedy(path))
        return _decode(path, data)

    def accept(self, group: str, key: str, entry: Entry, machine: Machine | None = None) -> None:
        """Merge an entry into its file; parts that the new entry does not have stay as they are.

        Raises BaselineError, and leaves the file as it was, if it cannot be written.
        """
        self.accept_all(group, {key: entry}, machine)

    def accept_all(self, group: str, entries: Mapping[str, Entry], machine: Machine | None = None) -> None:
        """The same for many entries of one file, which is written once."""

        def merged(old: BaselineFile) -> BaselineFile:
            for key, entry in entries.items():
                old = _merged(old, key, entry, machine)
            return old

        path = self.path_of(group)
        self._write(path, lambda: merged(self.read(path)))

    def preview(self, group: str, key: str, entry: Entry, machine: Machine | None = None) -> Entry:
        """What ``accept`` would leave of a case. Raises BaselineError for what could not be stored; writes nothing."""
        path = self.path_of(group)
        content = _merged(self.read(path), key, entry, machine)
        _encode(path, content)
        return content.cases[key]

    def put(self, path: Location, content: BaselineFile) -> None:
        """Write a file anew, whatever is there. Raises BaselineError if it cannot be written."""
        self._write(path, lambda: content)

    def _write(self, path: Location, content: Callable[[], BaselineFile]) -> None:
        try:
            with _alone(path) as write:
                write(_encode(path, content()))
        except Timeout as error:
            raise BaselineError(
                f"baseline {path} is locked by another process", "wait for it, then run again"
            ) from error
        except OSError as error:
            raise _failed(path, "written", error, "check permissions and free space") from error

    def entries(self) -> Iterator[tuple[str, Entry]]:
        """Every case that is stored, with its entry."""
        for path in self._files():
            yield from self.read(path).cases.items()

    def decode(self, path: Location, data: bytes) -> BaselineFile:
        """What the bytes of a baseline file hold. Raises BaselineError, naming the path."""
        return _decode(path, data)

    def drop(self, keys: set[str]) -> None:
        """Remove cases; each file is rewritten whole, or left as it was. Raises BaselineError."""
        for path in self._files():
            if keys & self.read(path).cases.keys():
                self._write(path, partial(self._without, path, keys))

    def _without(self, path: Location, keys: set[str]) -> BaselineFile:
        """Without these cases, and without machines that no case was timed on any more."""
        old = self.read(path)
        cases = {key: entry for key, entry in old.cases.items() if key not in keys}
        used = {machine for entry in cases.values() for machine in (*entry.time, *entry.sampled)}
        machines = {name: machine for name, machine in old.machines.items() if name in used}
        return msgspec.structs.replace(old, cases=cases, machines=machines)

    def _files(self) -> list[Path] | list[Remote]:
        try:
            if isinstance(self.folder, Remote):
                return list(self.folder.files(".json"))
            return sorted(self.folder.glob("*.json"))
        except OSError as error:
            raise _failed(self.folder, "listed", error, "check permissions") from error


def _stem(group: str) -> str:
    """Readable where it can be; a digest tells names apart of which too little is left, or that are too long."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", group).strip("-.")
    if len(stem) <= _LONGEST_STEM and (stem == group or re.search("[A-Za-z]", stem)):
        return stem
    digest = hashlib.sha256(group.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{stem[:_LONGEST_STEM]}-{digest}".lstrip("-")


def _failed(path: Location, verb: str, error: OSError, remedy: str) -> BaselineError:
    return BaselineError(f"baseline {path} cannot be {verb}: {error}", getattr(error, "remedy", remedy))


def _decode(path: Location, data: bytes) -> BaselineFile:
    try:
        version = msgspec.json.decode(data, type=_Versioned).version
        if version != VERSION:
            raise BaselineError(
                f"baseline {path} has version {version}, this perfsuite reads version {VERSION}",
                "upgrade perfsuite" if version > VERSION else _remedy(path),
            )
        return msgspec.json.decode(data, type=BaselineFile)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        if has_markers(data):
            raise BaselineError(
                f"baseline {path} has a merge conflict", f"perfsuite baseline resolve {shlex.quote(str(path))}"
            ) from None
        raise BaselineError(f"baseline {path} is not a baseline file: {error}", _remedy(path)) from error


class _Versioned(msgspec.Struct):
    version: Annotated[int, msgspec.Meta(ge=0, le=2**31)]


def _remedy(path: Location) -> str:
    restore = (
        "restore it from a copy"
        if isinstance(path, Remote)
        else f"restore it with 'git checkout -- {shlex.quote(str(path))}'"
    )
    return f"{restore}, or delete it and record it with 'pytest --perf-update'"


def merged_entry(old: Entry | None, new: Entry) -> Entry:
    """The new entry, and the parts of the old one that it lacks. Nothing is kept of an entry of another case."""
    if old is None or differing(old.of, new.of):
        return new
    sampled = {machine: {**old.sampled.get(machine, {}), **found} for machine, found in new.sampled.items()}
    return Entry(
        new.exact or old.exact, new.scores or old.scores, {**old.time, **new.time}, {**old.of, **new.of},
        {**old.flags, **new.flags}, {**old.numbers, **new.numbers}, {**old.sampled, **sampled},
    )  # fmt: skip


def _merged(old: BaselineFile, key: str, new: Entry, machine: Machine | None) -> BaselineFile:
    cases = {**old.cases, key: merged_entry(old.cases.get(key), new)}
    machines = {**old.machines, **({machine.id: machine} if machine else {})}
    used = {machine_id for stored in cases.values() for machine_id in (*stored.time, *stored.sampled)}
    return BaselineFile(VERSION, {k: v for k, v in machines.items() if k in used}, cases)


def _encode(path: Location, content: BaselineFile) -> bytes:
    """JSON with sorted keys below the version, one value on a line: made for reading as a diff.

    Raises BaselineError for what could not be read again, such as NaN from a metric.
    """
    try:
        plain: Any = msgspec.to_builtins(content, order="sorted")
        for entry in plain["cases"].values():
            for name in Entry.optional_fields():
                if not entry[name]:
                    del entry[name]
            if entry["exact"] and not entry["exact"]["counts"]:
                del entry["exact"]["counts"]
        ordered = {"version": plain.pop("version"), **plain}
        data = json.dumps(ordered, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        msgspec.json.decode(data, type=BaselineFile)
    except (TypeError, ValueError, msgspec.MsgspecError) as error:
        raise BaselineError(
            f"what was measured cannot be stored in {path}: {error}",
            "a metric must give a finite int or float, and a test id at most 500 characters",
        ) from error
    return data


def _read(path: Path, limit: int) -> bytes | None:
    """The content, but no more than ``limit`` + 1 bytes of it; None if there is no such file."""
    try:
        return read_regular(path, limit + 1)
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def _alone(path: Location) -> Iterator[Callable[[bytes], None]]:
    """Hold the lock of a local file meanwhile, and give the function that writes the file."""
    if isinstance(path, Remote):
        yield path.write
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(_lock_of(path), timeout=_LOCK_TIMEOUT_S):
        _sweep(path)
        yield partial(write_whole, path)


def _sweep(path: Path) -> None:
    """Remove temporary files of killed writers: of this file, and of others that nobody is writing now."""
    folder = path.resolve().parent
    for left in folder.glob(".*.tmp"):
        found = _TEMPORARY.fullmatch(left.name)
        if found and folder / found[1] == path.resolve():
            left.unlink(missing_ok=True)
        elif found:
            with contextlib.suppress(Timeout), FileLock(_lock_of(folder / found[1]), timeout=0):
                left.unlink(missing_ok=True)


def _lock_of(path: Path) -> Path:
    """The lock stands outside the folder: baselines are committed, locks are not.

    Names that differ in case share one: on some systems they are one file.
    """
    folder = Path(platformdirs.user_cache_dir("perfsuite", appauthor=False)) / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{hashlib.sha256(str(path.resolve()).casefold().encode()).hexdigest()[:24]}.lock"
