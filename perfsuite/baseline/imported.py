"""Baselines from pytest-benchmark's files: what ``--benchmark-json`` writes, or a folder such as ``.benchmarks``.

Such times come without a yardstick, so they are stored relative to a second, and judged as raw times, which
spread more. Each file is one process: only several of them tell how far it may differ from another.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec

from perfsuite.baseline.machine import Machine, isa_of
from perfsuite.baseline.schema import StoredTime
from perfsuite.errors import UsageError
from perfsuite.spec import SECOND, Case
from perfsuite.stats.blocks import quantile

MAX_FILE_BYTES = 256 * 2**20
Seconds = Annotated[float, msgspec.Meta(gt=0)]


class Stats(msgspec.Struct, frozen=True):
    """Of one test, in seconds. ``data`` is left out of saved files unless --benchmark-save-data is given."""

    median: Seconds
    data: tuple[Seconds, ...] = ()


class Benchmark(msgspec.Struct, frozen=True):
    fullname: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
    stats: Stats


class Commit(msgspec.Struct, frozen=True):
    id: str | None = None
    dirty: bool | None = False

    @property
    def text(self) -> str:
        return f"{(self.id or 'unknown')[:12]}{'+changes' if self.dirty else ''}"


class File(msgspec.Struct, frozen=True):
    """What pytest-benchmark wrote of one run; fields that are not needed are not read."""

    benchmarks: tuple[Benchmark, ...]
    machine_info: dict[str, Any] = {}
    commit_info: Commit = Commit()
    datetime: str = ""


@dataclass(frozen=True)
class Imported:
    """The times that were recorded on this machine, and why others were left out, by file."""

    times: Mapping[Case, StoredTime]
    left_out: Mapping[Path, str]


def read(paths: Iterable[Path], here: Machine) -> Imported:
    """Read files, and all ``*.json`` below folders. Raises UsageError for one that is missing or broken.

    ``here`` is the machine class that they must be of. The files do not name torch: it is taken to be
    the one that is installed.
    """
    files = {path: _decode(path) for path in _files(paths)}
    foreign = {path: why for path, file in files.items() if (why := _foreign(file, here))}
    runs = sorted((file for path, file in files.items() if path not in foreign), key=lambda file: file.datetime)
    if not runs:
        path, why = next(iter(foreign.items()))
        raise UsageError(
            f"no times were recorded on this machine class: {path} differs in {why}",
            "import where it was recorded, or judge beside a revision, which needs no stored time: pytest --perf-base",
        )
    return Imported(_times(runs), foreign)


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        found = sorted(path.rglob("*.json")) if path.is_dir() else [path]
        if not found:
            raise UsageError(
                f"{path} holds no .json file", "name a file of --benchmark-json, or the folder .benchmarks"
            )
        yield from found


def _decode(path: Path) -> File:
    remedy = "name a file that pytest --benchmark-json or --benchmark-save wrote"
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise UsageError(f"{path} is larger than {MAX_FILE_BYTES} bytes", remedy)
        file = msgspec.json.decode(path.read_bytes(), type=File)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", remedy) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not pytest-benchmark's: {error}", remedy) from None
    if not file.benchmarks:
        raise UsageError(f"{path} holds no benchmark", remedy)
    return file


def _foreign(file: File, here: Machine) -> str:
    """In what a file's machine differs from this one."""
    return "; ".join(here.differences(_machine(file.machine_info, here)))


def _machine(info: Mapping[str, Any], here: Machine) -> Machine:
    """The machine class of a file; what it does not say is taken to be as here.

    What perfsuite itself wrote for pytest-benchmark has the fields of a machine class beside the CPU.
    """
    cpu = info.get("cpu")
    known = cpu if isinstance(cpu, dict) else {}
    name = str(known.get("brand_raw", ""))
    numbers = "".join(f" {key} {known[key]}" for key in ("family", "model") if key in known)
    flags = known.get("flags")
    described = {
        "cpu": name + numbers if name else "unknown",
        "isa": isa_of(flags) if isinstance(flags, list) else here.isa,
        "cores": _cores(known, here),
        "os": f"{info.get('system', '')} {info.get('machine', '')}",
        "python": ".".join(str(info.get("python_version", "")).split(".")[:2]),
    }
    ours = {name: info[name] for name in here.__struct_fields__ if name != "cpu" and name in info}
    return msgspec.structs.replace(here, **described | ours)


def _cores(known: Mapping[str, Any], here: Machine) -> object:
    """pytest-benchmark counts all that the machine has, also where it may not run on all; we count those it may."""
    count = known.get("count", here.cores)
    return here.cores if count == os.cpu_count() else count


def _times(runs: Sequence[File]) -> dict[Case, StoredTime]:
    found: dict[str, list[tuple[File, Stats]]] = {}
    for file in runs:
        for benchmark in file.benchmarks:
            found.setdefault(benchmark.fullname, []).append((file, benchmark.stats))
    return {Case.of_callable(name): _stored(measured) for name, measured in found.items()}


def _stored(measured: Sequence[tuple[File, Stats]]) -> StoredTime:
    """Of the runs of one benchmark, in the order of their time: the last one's commit is what is accepted."""
    logs = tuple(round(math.log(stats.median), 6) for _, stats in measured)
    data = [seconds for _, stats in measured for seconds in stats.data]
    p90, p99 = (quantile(data, q) * 1e3 for q in (0.9, 0.99)) if data else (None, None)
    p50_ms = quantile([stats.median for _, stats in measured], 0.5) * 1e3
    return StoredTime(measured[-1][0].commit_info.text, SECOND, logs, p50_ms, p90, p99)
