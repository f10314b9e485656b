"""What is looked at once the tests are collected: a mistake is a usage error, before anything is measured."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from perfsuite.plugin import leaks
from perfsuite.plugin.options import DEFAULT_EXECUTOR, is_given
from perfsuite.plugin.state import collected, is_worker, options_of, registries_of


def check_executor(config: pytest.Config) -> None:
    """A name that is none is a usage error, before anything runs."""
    from perfsuite.errors import UsageError

    name = options_of(config).executor
    if name != DEFAULT_EXECUTOR and collected(config):
        try:
            registries_of(config).executors.get(name)
        except UsageError as error:
            raise pytest.UsageError(str(error)) from None


def watch_leaks(config: pytest.Config) -> None:
    """Only where there are performance tests: the others pay nothing."""
    if collected(config):
        leaks.watch(config, worker=is_worker())


def check_reports(config: pytest.Config) -> None:
    """An ending that nobody renders is a usage error, before anything is measured."""
    paths = options_of(config).report
    if not paths or is_worker():
        return
    from perfsuite.errors import UsageError
    from perfsuite.report.endings import reporter_of

    try:
        for path in paths:
            reporter_of(path.name, registries_of(config).reporters)
    except UsageError as error:
        raise pytest.UsageError(f"--perf-report={path}: {error}") from None


def said_of_reports(config: pytest.Config) -> Iterator[str]:
    """Where no performance test ran, reports stay as they are; whoever asked for them in this run is told."""
    if is_given(config, "report"):
        names = ", ".join(str(path) for path in options_of(config).report)
        yield f"perfsuite: no performance test ran, so {names} was not written"


def check_base(config: pytest.Config) -> None:
    """A base revision that does not exist is a usage error, before anything is measured."""
    base = options_of(config).base
    if not base or is_worker() or not collected(config):
        return
    from perfsuite.errors import PerfsuiteError
    from perfsuite.revisions.commits import resolve_base
    from perfsuite.revisions.git import repository
    from perfsuite.session.settings import ACCEPTED

    try:
        if base == ACCEPTED:
            repository(config.rootpath)
        else:
            resolve_base(config.rootpath, base)
    except PerfsuiteError as error:
        raise pytest.UsageError(str(error)) from None
