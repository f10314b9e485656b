"""The command on other tools' baselines: import."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perfsuite.cli.ini import storage_of, threads_of
from perfsuite.cli.output import Storage, Threads, near, say
from perfsuite.errors import UsageError

if TYPE_CHECKING:
    from perfsuite.baseline.machine import Machine
    from perfsuite.baseline.schema import StoredTime
    from perfsuite.baseline.store import Store
    from perfsuite.case import Case

IN_PART = 4  # the exit status
_USEFUL = 0.35  # a spread with which latency="auto" tolerates a doubled time (perfsuite.gate.automatic)


def import_(
    paths: Annotated[list[Path], typer.Argument(help="Files of --benchmark-json, or folders such as .benchmarks.")],
    storage: Storage = None,
    threads: Threads = None,
    commit: Annotated[str, typer.Option(help="The commit whose runs are taken; by default that of the newest.")] = "",
    replace: Annotated[
        bool, typer.Option("--replace", help="Also where this machine class has a time already.")
    ] = False,
) -> None:
    """Turn what pytest-benchmark has saved into baselines of the tests of the same names.

    They are judged as raw times, by the marker perf(latency=...) on a test that uses the fixture benchmark or perf.
    Exits with 4 if a file or an entry could not be used; what is sound is imported all the same.
    """
    from perfsuite.baseline import imported
    from perfsuite.baseline.machine import this_machine
    from perfsuite.baseline.store import Store

    here = this_machine(threads_of(threads))
    found = imported.read(paths, here, commit)
    store = Store(storage_of(storage))
    kept = [] if replace else list(_with_time(store, found.times, here))
    if kept and len(kept) == len(found.times):
        raise UsageError(
            f"all {len(kept)} cases have a time of this machine class already, such as {kept[0].key}",
            "--replace puts the imported ones in their place",
        )
    _accept(store, {case: time for case, time in found.times.items() if case not in kept}, here)
    for path, why in found.left_out.items():
        say(f"left out: {path}, recorded on {why}")
    for name, why in found.unusable.items():
        say(f"unusable: {why if name in why else f'{name}: {why}'}")
    for case in kept:
        say(f"kept: {case.key}, which has a time already (--replace)")
    count = len(found.times) - len(kept)
    say(f"imported {count} cases into {near(store.folder)}; torch is taken to be {here.torch}, as installed")
    if found.unusable:
        raise typer.Exit(IN_PART)


def _with_time(store: Store, cases: Iterable[Case], here: Machine) -> Iterator[Case]:
    """Those that have a time of this machine class already."""
    files = {group: store.read(store.path_of(group)) for group in {case.group for case in cases}}
    for case in cases:
        entry = files[case.group].cases.get(case.key)
        if entry is not None and here.id in entry.time:
            yield case


def _accept(store: Store, times: Mapping[Case, StoredTime], here: Machine) -> None:
    """Each file is written once."""
    from perfsuite.baseline.schema import Entry
    from perfsuite.stats.decision import spread_of

    for group in dict.fromkeys(case.group for case in times):
        mine = {case.key: Entry(time={here.id: time}) for case, time in times.items() if case.group == group}
        store.accept_all(group, mine, here)
    for case, time in times.items():
        runs = len(time.log_ratios)
        sd = spread_of(time.log_ratios).sd
        spread = f", spread {sd:.1%}" if runs > 1 else ""
        say(f"{case.key}: {time.p50_ms:.4g} ms, {runs} run{'s' * (runs > 1)}{spread}{_caution(sd)}")


def _caution(spread: float) -> str:
    return "; its runs differ too much to tell even a doubled time: record it with pytest --perf-update" * (
        spread > _USEFUL
    )
