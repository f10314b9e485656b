"""The end of a run: the table on the terminal, the report files, and which baselines nobody used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from perfsuite.baseline.machine import this_machine
from perfsuite.baseline.store import Store
from perfsuite.errors import BaselineError, PerfsuiteError
from perfsuite.plugin.records import records
from perfsuite.plugin.state import options_of, registries_of, settings_of, was_narrowed
from perfsuite.protocols import Run
from perfsuite.report import terminal
from perfsuite.spec import Status

_SHOWN = 5


def summarize(reporter: Any, config: pytest.Config) -> None:
    """Print the table and write the reports that were asked for."""
    run = run_of(reporter, config)
    reporter.write_sep("=", "perfsuite")
    more = config.get_verbosity() > 0
    for line in terminal.lines(run, width=reporter._tw.fullwidth, colour=reporter.hasmarkup, more=more):
        reporter.write_line(line)
    for path in options_of(config).report:
        reporter.write_line(_write_report(path, run, config))


def run_of(reporter: Any, config: pytest.Config) -> Run:
    found = records([report for reports in reporter.stats.values() for report in reports])
    verdicts = tuple(verdict for record in found for verdict in record.verdicts)
    settings = settings_of(config)
    return Run(
        verdicts=verdicts,
        machine=msgspec.to_builtins(this_machine(settings.threads)),
        notes=tuple(_notes(verdicts, config)),
        information={record.verdicts[0].case: record.information for record in found},
    )


def _notes(verdicts: tuple[Any, ...], config: pytest.Config) -> Iterator[str]:
    settings = settings_of(config)
    yield f"machine class: {this_machine(settings.threads).id}"
    recorded = {verdict.case for verdict in verdicts if verdict.status is Status.RECORDED}
    if recorded:
        yield f"{len(recorded)} cases recorded in {settings.storage}: review the diff and commit it"
    if not was_narrowed(config):
        yield from _unused({verdict.case for verdict in verdicts}, Store(settings.storage))


def _unused(used: set[str], store: Store) -> Iterator[str]:
    try:
        unused = [key for key in store.case_keys() if key not in used]
    except BaselineError as error:
        yield str(error)
        return
    if unused:
        more = f" and {len(unused) - _SHOWN} more" if len(unused) > _SHOWN else ""
        names = ", ".join(unused[:_SHOWN]) + more
        yield f"{len(unused)} baselines were not used: {names}; delete them if their tests are gone"


def _write_report(path: Path, run: Run, config: pytest.Config) -> str:
    """The ending chooses the reporter. A report that cannot be written is said, and fails nothing else."""
    try:
        text = "\n".join(registries_of(config).reporters.get(path.suffix)(run)) + "\n"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except (PerfsuiteError, OSError) as error:
        return f"report {path} was not written: {error}"
    return f"report written to {path}"
