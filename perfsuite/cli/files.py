"""Commands on files: report, history."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from perfsuite.cli.ini import history_of
from perfsuite.cli.output import Reports, check_reports, is_ascii, merged, read, say, width, write_reports


def report(
    files: Annotated[list[Path], typer.Argument(help="Reports that pytest --perf-report=FILE.json wrote.")],
    output: Reports = None,
) -> None:
    """Show reports again, or turn them into others. Exits with 1 if a verdict in them fails."""
    from perfsuite.report import as_json, terminal

    check_reports(output)
    run = merged([as_json.read(read(path, "a report in JSON"), str(path)) for path in files])
    write_reports(run, output)
    if not output:
        for line in terminal.lines(run, width=width(), encoding="ascii" if is_ascii() else "utf-8"):
            say(line)
    if any(verdict.status.fails() for verdict in run.verdicts):
        raise typer.Exit(1)


def history(
    case: Annotated[str, typer.Argument(help="A case, or a pattern such as 'encoder-*/fp32/*'.")] = "*",
    file: Annotated[
        str | None,
        typer.Option(
            "--file", "-f", help="What --perf-history wrote: a file or a URL. By default as perf_history says."
        ),
    ] = None,
    metric: Annotated[str, typer.Option(help="Only this metric.")] = "",
    branch: Annotated[str, typer.Option(help="Only runs of this branch.")] = "",
    audit: Annotated[
        bool, typer.Option("--audit", help="How often timing has contradicted the proof that nothing has changed.")
    ] = False,
) -> None:
    """Draw how a case went over many runs, and the commits at which it changed."""
    from perfsuite import history as kept

    if audit:
        for line in kept.audit_lines(kept.audits(history_of(file)), case):
            say(line)
        return
    rows = kept.read(history_of(file), metric=metric or None, branch=branch or None)
    for line in kept.render(case, rows, width=width(), ascii=is_ascii()):
        say(line)
