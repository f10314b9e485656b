"""The command on other tools' baselines: import."""

from __future__ import annotations

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
    kept = [case for case in found.times if not replace and _has_time(store, case, here)]
    if len(kept) == len(found.times):
        raise UsageError(
            f"all {len(kept)} cases have a time of this machine class already, such as {kept[0].key}",
            "--replace puts the imported ones in their place",
        )
    for case, time in found.times.items():
        if case not in kept:
            _accept(store, case, time, here)
    for path, why in found.left_out.items():
        say(f"left out: {path}, recorded on another machine class ({why})")
    for case in kept:
        say(f"kept: {case.key}, which has a time already (--replace)")
    say(
        f"imported {len(found.times) - len(kept)} cases into {storage}; torch is taken to be {here.torch}, as installed"
    )


def _has_time(store: Store, case: Case, here: Machine) -> bool:
    entry = store.entry(case.group, case.key)
    return entry is not None and here.id in entry.time


def _accept(store: Store, case: Case, time: StoredTime, here: Machine) -> None:
    from perfsuite.baseline.schema import Entry
    from perfsuite.stats.decision import spread_of

    store.accept(case.group, case.key, Entry(time={here.id: time}), here)
    runs = len(time.log_ratios)
    spread = f", spread {spread_of(time.log_ratios).sd:.1%}" if runs > 1 else ""
    say(f"{case.key}: {time.p50_ms:.4g} ms, {runs} run{'s' * (runs > 1)}{spread}")
