"""A file that pytest-benchmark wrote, checked field by field, and entry by entry: one bad entry spoils no other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec

from perfsuite.errors import UsageError
from perfsuite.files import read_regular

MAX_FILE_BYTES = 256 * 2**20
REMEDY = "name a file that pytest --benchmark-json or --benchmark-save wrote"
Seconds = Annotated[float, msgspec.Meta(ge=1e-15, le=1e9)]


class Stats(msgspec.Struct, frozen=True):
    """Of one test, in seconds. ``data`` is left out of saved files unless --benchmark-save-data is given."""

    median: Seconds
    data: tuple[Seconds, ...] = ()


class Benchmark(msgspec.Struct, frozen=True):
    fullname: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
    stats: Stats


class Commit(msgspec.Struct, frozen=True):
    """Without an id where pytest-benchmark found no repository."""

    id: str | None = None
    dirty: bool | None = False

    @property
    def text(self) -> str:
        return f"{(self.id or 'unknown')[:12]}{'+changes' if self.dirty else ''}"


@dataclass(frozen=True)
class File:
    """One run. ``unusable`` says of each entry that was left out, why; fields that are not needed are not read."""

    benchmarks: tuple[Benchmark, ...]
    machine_info: Mapping[str, Any]
    commit: Commit
    time: datetime
    unusable: Mapping[str, str]


class _Written(msgspec.Struct, frozen=True):
    benchmarks: tuple[Any, ...]
    machine_info: dict[str, Any] | None = None
    commit_info: Commit | None = None
    datetime: str | None = None


def decode(path: Path) -> File:
    """Raises UsageError, naming the file, for one that is no such file, or has no usable entry."""
    try:
        data = read_regular(path, MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise UsageError(f"{path} is larger than {MAX_FILE_BYTES} bytes", REMEDY)
        written = msgspec.convert(json.loads(data), _Written)  # json reads every encoding, with and without a mark
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", REMEDY) from None
    except (msgspec.ValidationError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not pytest-benchmark's: {error}", REMEDY) from None
    if not written.benchmarks:
        raise UsageError(f"{path} holds no benchmark, as under --benchmark-disable", REMEDY)
    file = _file(written)
    if not file.benchmarks:
        name, why = next(iter(file.unusable.items()))
        raise UsageError(f"{path} is not pytest-benchmark's: {name}: {why}", REMEDY)
    return file


def _file(written: _Written) -> File:
    benchmarks, unusable = [], {}
    for number, entry in enumerate(written.benchmarks):
        try:
            benchmarks.append(msgspec.convert(entry, Benchmark))
        except msgspec.ValidationError as error:
            unusable[_name(entry, number)] = str(error)
    info, commit = written.machine_info or {}, written.commit_info or Commit()
    return File(tuple(benchmarks), info, commit, _time(written.datetime or ""), unusable)


def _name(entry: Any, number: int) -> str:
    """What a message calls an entry that cannot be used, whatever it is."""
    name = entry.get("fullname") if isinstance(entry, dict) else None
    if not isinstance(name, str) or not name:
        return f"entry {number + 1}"
    return name if len(name) <= 100 else f"{name[:100]}... ({len(name)} characters)"


def _time(text: str) -> datetime:
    """When a run was; one that does not say it was before all others."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return time if time.tzinfo else time.replace(tzinfo=UTC)
