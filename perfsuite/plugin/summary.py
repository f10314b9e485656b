"""The end of a run: the table on the terminal, the report files, and which baselines nobody used."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from perfsuite._compat.pytest import terminal_encoding
from perfsuite.baseline.machine import this_machine
from perfsuite.baseline.store import Store
from perfsuite.errors import BaselineError, PerfsuiteError
from perfsuite.patterns import first_of
from perfsuite.plugin.commands import update_all_command
from perfsuite.plugin.ours import said_of_left_alone
from perfsuite.plugin.records import records, run_again
from perfsuite.plugin.reruns import notes_on_plugins
from perfsuite.plugin.sessions import audits_of, notes_of, settings_of
from perfsuite.plugin.state import is_whole_run, is_worker, options_of, registries_of
from perfsuite.protocols import Run
from perfsuite.report import markdown, terminal
from perfsuite.report.endings import write_report
from perfsuite.revisions.commits import branch, revision
from perfsuite.spec import Status, Verdict

_SHOWN = 5


def summarize(reporter: Any, config: pytest.Config) -> None:
    """Print the table and write the reports that were asked for."""
    run = run_of(reporter, config)
    reporter.write_sep("=", "perfsuite")
    more = config.get_verbosity() > 0
    width, encoding = config.get_terminal_writer().fullwidth, terminal_encoding(config)
    shown = {"width": width, "colour": reporter.hasmarkup, "more": more, "encoding": encoding}
    for line in terminal.lines(run, **shown):
        reporter.write_line(line)
    for path in options_of(config).report:
        reporter.write_line(_write_report(path, run, config))
    _add_to_step_summary(run)
    for line in _append_to_history(run, config):
        reporter.write_line(line)


def run_of(reporter: Any, config: pytest.Config) -> Run:
    reports = [report for reports in reporter.stats.values() for report in reports]
    found = records(reports)
    verdicts = tuple(verdict for record in found for verdict in record.verdicts)
    information: dict[str, dict[str, Any]] = {}
    samples: dict[str, tuple[tuple[float, ...], ...]] = {}
    operators: dict[str, dict[str, tuple[int, int]]] = {}
    for record in found:
        case = record.verdicts[0].case
        information.setdefault(case, {}).update(record.information)
        samples[case] = samples.get(case, ()) + record.samples_ms
        operators.setdefault(case, {}).update(record.operators)
    metrics = registries_of(config).metrics
    return Run(
        verdicts=verdicts,
        machine=msgspec.to_builtins(this_machine(settings_of(config).threads)),
        notes=(*_notes(verdicts, config, reports), *notes_on_plugins(run_again(reports), config)),
        information=information,
        samples={case: blocks for case, blocks in samples.items() if blocks},
        operators={case: changed for case, changed in operators.items() if changed},
        better={verdict.metric: metrics.get(verdict.metric).better for verdict in verdicts},
        commit=revision(config.rootpath),
        audits=audits_of(config),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _notes(verdicts: tuple[Verdict, ...], config: pytest.Config, reports: Sequence[Any]) -> Iterator[str]:
    settings = settings_of(config)
    judged_items = len({report.nodeid for report in reports if getattr(report, "perfsuite", None)})
    yield f"machine class: {this_machine(settings.threads).id}"
    yield from notes_of(config)
    recorded = {verdict.case for verdict in verdicts if verdict.status is Status.RECORDED}
    if any(verdict.status is Status.NO_BASELINE for verdict in verdicts):
        yield from _first_steps(config, Store(settings.storage))
    if recorded:
        review = ": review the diff and commit it" if isinstance(settings.storage, Path) else ""
        yield f"{len(recorded)} {'case' if len(recorded) == 1 else 'cases'} recorded in {settings.storage}{review}"
    left_alone = tuple(said_of_left_alone(config, reports))
    yield from left_alone
    if is_whole_run(config, judged_items) and not left_alone:
        yield from _unused({verdict.case for verdict in verdicts}, Store(settings.storage))


def _first_steps(config: pytest.Config, store: Store) -> Iterator[str]:
    """What a person does who has never recorded anything: one command, and not one for each test."""
    with suppress(BaselineError):
        if next(store.case_keys(), None) is None:
            yield f"no baseline is stored in {store.folder} yet; this records them all: {update_all_command(config)}"


def _unused(used: set[str], store: Store) -> Iterator[str]:
    try:
        unused = [key for key in store.case_keys() if key not in used]
    except BaselineError as error:
        yield str(error)
        return
    if unused:
        names = first_of(unused, _SHOWN)
        yield f"{len(unused)} baselines were not used: {names}; delete them if their tests are gone"


def _write_report(path: Path, run: Run, config: pytest.Config) -> str:
    """The ending chooses the reporter. A report that cannot be written is said, and fails nothing else."""
    try:
        write_report(run, path, registries_of(config).reporters)
    except (PerfsuiteError, OSError) as error:
        return f"report {path} was not written: {error}"
    return f"report written to {path}"


def _add_to_step_summary(run: Run) -> None:
    """GitHub Actions shows what is appended to this file beside the job."""
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if path and not is_worker():
        with suppress(OSError), Path(path).open("a", encoding="utf-8") as file:  # the terminal has said it all
            file.write("\n".join(markdown.lines(run, markdown.STEP_SUMMARY_BYTES)) + "\n")


def _append_to_history(run: Run, config: pytest.Config) -> Iterator[str]:
    """What could not be kept is said, and fails nothing else."""
    place = options_of(config).history
    if place is None or not run.verdicts or is_worker():
        return
    from perfsuite.history import append, record_of

    machine = this_machine(settings_of(config).threads).id
    try:
        append(place, record_of(run, machine, branch(config.rootpath), registries_of(config).metrics))
    except PerfsuiteError as error:
        yield f"history was not written: {error}"
    else:
        yield f"history appended to {place}"
