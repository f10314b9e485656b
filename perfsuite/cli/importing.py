"""The command on other tools' baselines: import."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perfsuite.cli.output import Storage, say
from perfsuite.errors import UsageError

if TYPE_CHECKING:
    from perfsuite.baseline.machine import Machine
    from perfsuite.baseline.schema import StoredTime
    from perfsuite.baseline.store import Store
    from perfsuite.spec import Case


def import_(
    paths: Annotated[list[Path], typer.Argument(help="Files of --benchmark-json, or folders such as .benchmarks.")],
    storage: Storage = "baselines",
    threads: Annotated[int, typer.Option(min=0, help="What --perf-threads will be; 0: a thread for each core.")] = 0,
    replace: Annotated[
        bool, typer.Option("--replace", help="Also where this machine class has a time already.")
    ] = False,
) -> None:
    """Turn what pytest-benchmark has saved into baselines of the tests of the same names.

    They are judged as raw times, by the marker perf(latency=...) on a test that uses the fixture benchmark or perf.
    """
    from perfsuite.baseline import imported
    from perfsuite.baseline.machine import this_machine, usable_cores
    from perfsuite.baseline.remote import location
    from perfsuite.baseline.store import Store

    here = this_machine(threads or usable_cores())
    found = imported.read(paths, here)
    store = Store(location(storage, Path.cwd()))
    kept = [] if replace else list(_with_time(store, found.times, here))
    if len(kept) == len(found.times):
        raise UsageError(
            f"all {len(kept)} cases have a time of this machine class already, such as {kept[0].key}",
            "--replace puts the imported ones in their place",
        )
    _accept(store, {case: time for case, time in found.times.items() if case not in kept}, here)
    for path, why in found.left_out.items():
        say(f"left out: {path}, recorded on another machine class ({why})")
    for case in kept:
        say(f"kept: {case.key}, which has a time already (--replace)")
    say(
        f"imported {len(found.times) - len(kept)} cases into {storage}; torch is taken to be {here.torch}, as installed"
    )


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
        spread = f", spread {spread_of(time.log_ratios).sd:.1%}" if runs > 1 else ""
        say(f"{case.key}: {time.p50_ms:.4g} ms, {runs} run{'s' * (runs > 1)}{spread}")
