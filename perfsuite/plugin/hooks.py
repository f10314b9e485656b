"""pytest's hooks, each delegating in a line or two. Registered as the entry point ``perfsuite``."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, cast

import pytest

import perfsuite.measure.clock  # noqa: F401  # takes the clock before any conftest or test can put another in its place
from perfsuite.plugin import declaring
from perfsuite.plugin.checks import check_base, check_executor, check_reports, said_of_reports, watch_leaks
from perfsuite.plugin.ours import attach_left_alone, claim, is_ours, said_of_left_alone, select, shadows
from perfsuite.plugin.reruns import register, run_once
from perfsuite.plugin.sessions import close, has_failed, session_of
from perfsuite.plugin.state import (
    architectures_known,
    is_worker,
    note_collected,
    note_deselected,
    options_of,
    registries_of,
    start,
)

if TYPE_CHECKING:
    from perfsuite.plugin.fixtures import Perf, PerfCase


_WORKER_VARIABLE = "PERFSUITE_WORKER"  # see perfsuite.executors.workers, which is not imported here


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    _open_if_worker(pluginmanager)
    declaring.add_ini_keys(parser)
    declaring.add_options(parser, early=True)


def _open_if_worker(pluginmanager: pytest.PytestPluginManager) -> None:
    """Enter the first revision of a worker: before any conftest is imported."""
    if _WORKER_VARIABLE in os.environ:
        from perfsuite.plugin.serving import open_if_ordered

        open_if_ordered()
    if is_worker():
        from perfsuite.plugin.serving import redirect_writes

        redirect_writes(pluginmanager)


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config, parser: pytest.Parser) -> Generator[None, None, None]:
    if not is_worker():
        from perfsuite.plugin.proving import watch

        watch(early_config)
    declaring.withdraw_options(early_config, parser)
    try:
        yield
    finally:
        declaring.add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    from perfsuite.plugin import hookspecs

    pluginmanager.add_hookspecs(hookspecs)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)
    start(config)
    register(config)


MARKER = (
    "perf(models=[...], techniques=['fp32'], runtimes=['eager'], workload='forward', recipes=['plain'], "
    "devices=['cpu'], batch_sizes=[1], **limits): run the test for each model x technique x runtime x workload "
    "x recipe x device x batch size, "
    "with the fixture perf_case; "
    "limits such as latency='5%' or size='0%' are those of perf_case.gate() (perfsuite)"
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if is_ours(metafunc.definition):
        from perfsuite.plugin.matrix import check_and_parametrize

        run_once(metafunc)
        check_and_parametrize(metafunc, options_of(metafunc.config), registries_of(metafunc.config))


def pytest_itemcollected(item: pytest.Item) -> None:
    if is_worker():
        from perfsuite.plugin.serving import keep_collected

        keep_collected(item)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    select(config, items)


def pytest_deselected(items: list[pytest.Item]) -> None:
    if items:
        note_deselected(items[0].config)


def pytest_collection_finish(session: pytest.Session) -> None:
    note_collected(session.config, [item for item in session.items if is_ours(item)])
    watch_leaks(session.config)
    check_reports(session.config)
    check_base(session.config)
    check_executor(session.config)


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


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.exitstatus == pytest.ExitCode.OK and has_failed(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_unconfigure(config: pytest.Config) -> None:
    close(config)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    with architectures_known(item.config):
        return (yield)


@pytest.fixture
def perf_case(request: pytest.FixtureRequest) -> PerfCase:
    """One case of the matrix: ``model``, ``original``, ``inputs``, and ``gate(**limits)``."""
    if shadows(request.node, "perf_case"):
        return cast("PerfCase", request.getfixturevalue("perf_case"))
    from perfsuite.plugin.fixtures import PerfCase

    return PerfCase.of(request, session_of(request.config))


@pytest.fixture
def perf(request: pytest.FixtureRequest) -> Perf:
    """``perf(fn, *args, **limits)`` measures and gates any callable, and returns its result."""
    if shadows(request.node, "perf"):
        return cast("Perf", request.getfixturevalue("perf"))
    from perfsuite.plugin.fixtures import Perf

    return Perf(request.node, session_of(request.config))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if is_ours(item):
        from perfsuite.plugin.matrix import check_test_case
        from perfsuite.plugin.proving import begin
        from perfsuite.plugin.records import begin_run

        begin(item)
        begin_run(item)
        check_test_case(item)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    if claim(item).is_benchmarked:
        from perfsuite.plugin.benchmark import watch

        watch(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    found = claim(item)
    if found.is_ours:
        from perfsuite.plugin.records import attach

        attach(report, item)
    attach_left_alone(report, found.left_alone)
    return report


def pytest_report_teststatus(report: Any, config: pytest.Config) -> tuple[str, str, Any] | None:
    if getattr(report, "perfsuite", None) and report.when == "call":
        from perfsuite.plugin.records import teststatus

        return teststatus(report)
    return None


def pytest_report_header(config: pytest.Config) -> list[str]:
    return list(declaring.taken_names(config))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if is_worker():
        return
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    ran = [report for report in reports if hasattr(report, "perfsuite")]
    if any(report.perfsuite for report in ran) or (ran and options_of(config).report):
        from perfsuite.plugin.summary import summarize

        summarize(terminalreporter, config)
        return
    for line in (*said_of_left_alone(config, reports), *(() if ran else said_of_reports(config))):
        terminalreporter.write_line(line)
