"""pytest's hooks, each delegating in a line or two. Registered as the entry point ``perfsuite``."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from perfsuite.plugin import options
from perfsuite.plugin.state import (
    PerfTests,
    check_base,
    check_reports,
    close,
    is_worker,
    note_collected,
    note_deselected,
    open_if_worker,
    options_of,
    registries_of,
    session_of,
    start,
    watch_leaks,
)

if TYPE_CHECKING:
    from perfsuite.plugin.fixtures import Perf, PerfCase


def pytest_addoption(parser: pytest.Parser) -> None:
    open_if_worker()
    options.add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    from perfsuite.plugin import hookspecs

    pluginmanager.add_hookspecs(hookspecs)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)
    start(config)


MARKER = (
    "perf(models=[...], techniques=['fp32'], devices=['cpu'], batch_sizes=[1], **limits): "
    "run the test for each model x technique x device x batch size, with the fixture perf_case; "
    "limits such as latency='5%' or size='0%' are those of perf_case.gate() (perfsuite)"
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if PerfTests.is_one(metafunc.definition):
        from perfsuite.plugin.matrix import check_and_parametrize

        check_and_parametrize(metafunc, options_of(metafunc.config), registries_of(metafunc.config))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    PerfTests.select(config, items)


def pytest_deselected(items: list[pytest.Item]) -> None:
    if items:
        note_deselected(items[0].config)


def pytest_collection_finish(session: pytest.Session) -> None:
    note_collected(session.config, session.items)
    watch_leaks(session.config)
    check_reports(session.config)
    check_base(session.config)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    if not is_worker():
        return None
    from perfsuite.plugin.serving import serve

    serve(session)
    return True


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if is_worker():
        from perfsuite.plugin.serving import note

        note(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if is_worker():
        from perfsuite.plugin.serving import note

        note(report)


def pytest_unconfigure(config: pytest.Config) -> None:
    close(config)


@pytest.fixture
def perf_case(request: pytest.FixtureRequest) -> PerfCase:
    """One case of the matrix: ``model``, ``original``, ``inputs``, and ``gate(**limits)``."""
    from perfsuite.plugin.fixtures import PerfCase

    return PerfCase.of(request, session_of(request.config))


@pytest.fixture
def perf(request: pytest.FixtureRequest) -> Perf:
    """``perf(fn, *args, **limits)`` measures and gates any callable, and returns its result."""
    from perfsuite.plugin.fixtures import Perf

    return Perf(request.node, session_of(request.config))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    if PerfTests.is_benchmarked(item):
        from perfsuite.plugin.benchmark import watch

        watch(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if PerfTests.is_one(item):
        from perfsuite.plugin.records import attach

        attach(report, item)
    return report


def pytest_report_teststatus(report: Any, config: pytest.Config) -> tuple[str, str, Any] | None:
    if getattr(report, "perfsuite", None) and report.when == "call":
        from perfsuite.plugin.records import teststatus

        return teststatus(report)
    return None


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    judged = (getattr(report, "perfsuite", None) for reports in terminalreporter.stats.values() for report in reports)
    if any(judged) or (options_of(config).report and not is_worker()):
        from perfsuite.plugin.summary import summarize

        summarize(terminalreporter, config)
