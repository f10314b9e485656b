"""Baselines from pytest-benchmark's files: what ``--benchmark-json`` writes, or a folder such as ``.benchmarks``.

Such times come without a reference workload, so they are stored relative to a second, and judged as raw times, which
spread more. Each file is one process: only several of them tell how far it may differ from another.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from perfsuite.baseline.machine import Machine, isa_of
from perfsuite.baseline.pytest_benchmark import Commit, File, Stats, decode
from perfsuite.baseline.schema import StoredTime
from perfsuite.case import Case
from perfsuite.errors import UsageError
from perfsuite.spec import SECOND
from perfsuite.stats.blocks import quantile


@dataclass(frozen=True)
class Imported:
    """The times of one commit that were recorded on this machine.

    ``left_out`` says of each sound file that is of another machine class or commit, why; ``unusable`` the same
    of each broken file or entry.
    """

    times: Mapping[Case, StoredTime]
    left_out: Mapping[Path, str]
    unusable: Mapping[str, str]


def read(paths: Iterable[Path], here: Machine, commit: str = "") -> Imported:
    """Read files, and all ``*.json`` below folders: of one commit, by default that of the newest run.

    ``here`` is the machine class that they must be of. The files do not name torch: it is taken to be
    the one that is installed. Raises UsageError if nothing is left.
    """
    files, broken = _decoded(paths)
    foreign = {path: why for path, file in files.items() if (why := _foreign(file, here))}
    runs = {path: file for path, file in files.items() if path not in foreign}
    if not runs:
        raise _nothing(foreign, broken)
    wanted = _commit_of(runs.values(), commit)
    others = {path: _other(file.commit, wanted) for path, file in runs.items() if file.commit != wanted}
    mine = sorted((file for file in runs.values() if file.commit == wanted), key=lambda file: file.time)
    entries = {f"{path}: {name}": why for path, file in files.items() for name, why in file.unusable.items()}
    return Imported(_times(mine), foreign | others, {path: error.what for path, error in broken.items()} | entries)


def _decoded(paths: Iterable[Path]) -> tuple[dict[Path, File], dict[str, UsageError]]:
    """The files that can be used, and what is wrong with others."""
    files: dict[Path, File] = {}
    broken: dict[str, UsageError] = {}
    for given in paths:
        found = sorted(given.rglob("*.json")) if given.is_dir() else [given]
        if not found:
            remedy = "name a file of --benchmark-json, or the folder .benchmarks"
            broken[str(given)] = UsageError(f"{given} holds no .json file", remedy)
        for path in found:
            try:
                files[path] = decode(path)
            except UsageError as error:
                broken[str(path)] = error
    return files, broken


def _nothing(foreign: Mapping[Path, str], broken: Mapping[str, UsageError]) -> UsageError:
    """Why nothing is left."""
    if not foreign:
        first, *others = broken.values()
        return UsageError("\n".join([first.what, *(error.what for error in others)]), first.remedy)
    path, why = next(iter(foreign.items()))
    return UsageError(
        f"no times were recorded on this machine class: {path} was recorded on {why}",
        "import where it was recorded, or judge beside a revision, which needs no stored time: pytest --perf-base",
    )


def _commit_of(runs: Collection[File], asked: str) -> Commit:
    """That of the newest run, of those whose commit starts as was asked for."""
    found = [f for f in runs if any(name.startswith(asked) for name in (f.commit.id or "unknown", f.commit.text))]
    if not found:
        known = ", ".join(sorted({file.commit.text for file in runs}))
        raise UsageError(f"no run of this machine class is of commit {asked!r}", f"name one of {known}")
    return max(found, key=lambda file: file.time).commit


def _other(commit: Commit, wanted: Commit) -> str:
    return f"commit {commit.text}, not {wanted.text}; --commit chooses"


def _foreign(file: File, here: Machine) -> str:
    """How a file's machine differs from this one."""
    differences = "; ".join(here.differences(_machine(file.machine_info, here)))
    return f"another machine class ({differences})" if differences else ""


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
    """The baseline from the runs of one benchmark, by time. The commit of the last one is what is accepted."""
    logs = tuple(round(math.log(stats.median), 6) for _, stats in measured)
    data = [seconds for _, stats in measured for seconds in stats.data]
    p90, p99 = (quantile(data, q) * 1e3 for q in (0.9, 0.99)) if data else (None, None)
    p50_ms = quantile([stats.median for _, stats in measured], 0.5) * 1e3
    return StoredTime(measured[-1][0].commit.text, SECOND, logs, p50_ms, p90, p99)
