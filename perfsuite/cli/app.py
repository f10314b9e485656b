"""The command line: commands, and what errors become.

Exit: 0 fine, 1 regression, 2 usage, 3 could not measure, 4 done in part.
"""

from __future__ import annotations

import sys

import typer

from perfsuite.cli import baselines, files, importing, machine, models, training
from perfsuite.errors import EngineError, ModelError, PerfsuiteError, TechniqueError

USAGE, COULD_NOT_MEASURE = 2, 3

app = typer.Typer(
    name="perfsuite",
    help="Compare, optimize and watch PyTorch models. Gates in CI are pytest's: see 'pytest --help', perfsuite.",
    epilog="Exit status: 0 fine, 1 regression, 2 usage, 3 could not measure, 4 done in part.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(models.demo)
app.command()(models.compare)
app.command()(models.optimize)
app.command()(training.memory)
app.add_typer(baselines.app, name="baseline")
app.command()(files.report)
app.command()(files.history)
app.command("import")(importing.import_)
app.command()(machine.machine)


def main() -> None:
    """The entry point: one clear message for what perfsuite raises on purpose, and never a traceback for it."""
    try:
        app()
    except PerfsuiteError as error:
        print(f"perfsuite: {error}", file=sys.stderr)  # noqa: T201  # a command prints
        sys.exit(status_of(error))


def status_of(error: PerfsuiteError) -> int:
    """Whether what was asked for was wrong, or could not be measured."""
    return COULD_NOT_MEASURE if isinstance(error, ModelError | TechniqueError | EngineError) else USAGE
