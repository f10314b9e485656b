"""What commands share: options that mean the same everywhere, and writing to a stream as it can take it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from perfsuite.baseline.remote import Location
from perfsuite.errors import UsageError
from perfsuite.files import read_regular
from perfsuite.protocols import Run

Reports = Annotated[
    list[Path] | None,
    typer.Option("--output", "-o", help="Write a report; its ending says which: .html, .md, .json..."),
]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="The seed of weights, inputs and orders.")]
Storage = Annotated[
    str | None,
    typer.Option(
        help="Where the baselines are: a folder or a URL. As pytest has it by default: perf_storage, or baselines."
    ),
]
Threads = Annotated[
    int | None, typer.Option(min=0, help="Threads; 0 is every core that is usable. By default as perf_threads says.")
]


def say(text: object = "") -> None:
    """One line or table on standard output; what the stream cannot encode becomes plain.

    A reader that has seen enough (such as ``head``) ends no command: files are still to be written.
    """
    encoding = sys.stdout.encoding or "utf-8"
    try:
        typer.echo(str(text).encode(encoding, "replace").decode(encoding))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def near(place: Location) -> Location:
    """A place as it is seen from the current folder, if it is below that."""
    here = Path.cwd()
    return place.relative_to(here) if isinstance(place, Path) and place.is_relative_to(here) else place


def width() -> int:
    return shutil.get_terminal_size((100, 24)).columns


def is_ascii() -> bool:
    """Whether standard output can carry no more than ASCII."""
    try:
        "█✓".encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return True
    return False


def read(path: Path, what: str) -> bytes:
    """A file that a user names. Raises UsageError, which advises to name what it should be."""
    try:
        return read_regular(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", f"name {what}") from None


def check_reports(paths: Iterable[Path] | None) -> None:
    """Raises UnknownNameError for an ending that nobody renders: before anything is measured."""
    from perfsuite.report.endings import reporter_of

    for path in paths or ():
        reporter_of(path.name)


def write_reports(run: Run, paths: Iterable[Path] | None) -> None:
    """Write a run to each path, as its ending says. Raises UsageError for a path that cannot be written."""
    from perfsuite.report.endings import write_report

    for path in paths or ():
        try:
            write_report(run, path)
        except OSError as error:
            raise UsageError(f"{path} cannot be written: {error}", "choose another place") from error
        say(f"written: {path}")


def merged(runs: Sequence[Run]) -> Run:
    """Several runs as one, such as those of a matrix of CI jobs; the last one's numbers win."""
    first = runs[0]
    return Run(
        verdicts=tuple(verdict for run in runs for verdict in run.verdicts),
        machine=first.machine,
        notes=tuple(dict.fromkeys(note for run in runs for note in run.notes)),
        information={case: shown for run in runs for case, shown in run.information.items()},
        samples={case: blocks for run in runs for case, blocks in run.samples.items()},
        operators={case: changed for run in runs for case, changed in run.operators.items()},
        better={name: way for run in runs for name, way in run.better.items()},
        commit=first.commit,
        created=first.created,
    )
