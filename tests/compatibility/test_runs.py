"""Plugins that run tests in another way: again, with a time limit, in an event loop, with another terminal."""

import json
import re

import pytest

RERUN = """
from pathlib import Path

def work():
    return sum(range(1000))

def test_slow(perf):
    perf(work, latency="<=1 ns")

def test_flaky(perf):
    perf(work, latency="<=1 s")
    runs = Path("runs.txt")
    runs.write_text(runs.read_text() + "x" if runs.exists() else "x")
    assert len(runs.read_text()) == 3
    perf(work, latency="<=2 s")
"""
CASES = {
    "test_suite.py::test_slow": "REGRESSED",
    "test_suite.py::test_flaky": "PASS",
    "test_suite.py::test_flaky#2": "PASS",
}


@pytest.mark.parametrize(
    ("plugin", "arguments"),
    [
        ("rerunfailures", ["--reruns=2"]),
        ("pytest-retry", ["--retries=2"]),
        ("flaky", ["--force-flaky", "--max-runs=3"]),
    ],
)
def test_a_test_that_runs_again_keeps_the_verdicts_of_its_first_run(suite, plugin, arguments):
    suite.write(test_suite=RERUN)
    result = suite.run(*arguments, "--perf-report=run.json", "--junitxml=junit.xml", plugins=[plugin])
    assert {"failed": 1, "passed": 1}.items() <= result.parseoutcomes().items()
    result.stdout.fnmatch_lines(
        ["this is the verdict of the test's first run: a case is judged once*",
         "test_suite.py::test_flaky, test_suite.py::test_slow ran again: a case is judged once*"]
    )  # fmt: skip
    report = json.loads((suite.path / "run.json").read_text())
    assert [(verdict["case"], verdict["status"]) for verdict in report["verdicts"]] == list(CASES.items())
    assert all(len(report["samples"][case]) == len(set(map(tuple, report["samples"][case]))) for case in CASES)
    if plugin != "flaky":  # which reports only what passes at last, but each teardown
        junit = (suite.path / "junit.xml").read_text()
        assert re.findall(r'"perfsuite.latency.case" value="(.*?)"', junit) == list(CASES)


def test_what_is_recorded_is_recorded_when_a_later_run_passes(suite):
    suite.write(test_suite=RERUN.replace("<=1 s", "300%"))
    suite.run("--reruns=2", "--perf-update", plugins=["rerunfailures"]).assert_outcomes(failed=1, passed=1)
    assert suite.recorded() == ["test_suite.py::test_flaky"]


def test_a_rerun_under_xdist_is_judged_once_too(suite):
    suite.write(test_suite=RERUN)
    result = suite.run("--reruns=2", "-n2", "--perf-report=run.json", plugins=["rerunfailures", "xdist"])
    assert result.parseoutcomes()["rerun"] == 2
    report = json.loads((suite.path / "run.json").read_text())
    assert sorted((verdict["case"], verdict["status"]) for verdict in report["verdicts"]) == sorted(
        (case, "NOT_MEASURED") for case in CASES
    )


def test_pytest_repeat_leaves_performance_tests_alone(suite):
    result = suite.run("--count=3", "--perf-update", plugins=["repeat"])
    result.assert_outcomes(passed=3 + 3)
    assert suite.recorded() == ["test_suite.py::test_recorded", "test_suite.py::test_second"]
    result.stdout.fnmatch_lines(["pytest-repeat: performance tests run once*"])


def test_pytest_timeout_ends_a_test_and_the_next_one_is_measured(suite):
    suite.write(
        test_suite="""
        import time
        import pytest

        def test_bounded(perf):
            perf(sum, range(1000), latency="<=1 s")

        @pytest.mark.timeout(1)
        def test_slow(perf):
            perf(time.sleep, 0.2, latency="300%")

        def test_next(perf):
            perf(sum, range(1000), latency="300%")
        """
    )
    result = suite.run("--perf-update", "--timeout=300", plugins=["timeout"])
    result.assert_outcomes(failed=1, passed=2)
    result.stdout.fnmatch_lines(["*Timeout (>1.0s) from pytest-timeout."])
    assert suite.recorded() == ["test_suite.py::test_next"]


@pytest.mark.parametrize(
    ("plugin", "marker", "arguments"), [("asyncio", "asyncio", ["--asyncio-mode=auto"]), ("anyio", "anyio", [])]
)
def test_asynchronous_tests_are_gated(suite, plugin, marker, arguments):
    suite.write(
        test_suite=f"""
        import asyncio
        import pytest

        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        @pytest.mark.{marker}
        async def test_asynchronous(perf):
            await asyncio.sleep(0)
            assert perf(sum, range(1000), latency="300%") == sum(range(1000))
        """
    )
    suite.run("--perf-update", *arguments, plugins=[plugin]).assert_outcomes(passed=1)
    assert suite.recorded() == ["test_suite.py::test_asynchronous"]


def test_pytest_sugar_shows_the_table(suite):
    result = suite.run("--perf-update", plugins=["sugar"])
    assert result.ret == 0
    result.stdout.fnmatch_lines(["RECORDED  test_suite.py::test_recorded *", "1 PASS, 2 RECORDED*"])
    assert len(suite.recorded()) == 2


def test_inside_of_a_running_loop_nothing_is_awaited_and_its_loop_is_left_alone(suite):
    suite.write(
        test_suite="""
        import asyncio
        import pytest

        async def work():
            await asyncio.sleep(0.02)

        def test_plain(perf):
            perf(work, latency="<=9 s")

        @pytest.mark.asyncio
        async def test_inside(perf):
            perf(work, latency="<=9 s")

        @pytest.mark.asyncio
        async def test_after(perf):
            await work()
            perf(len, "abc", latency="<=1 s")
        """
    )
    result = suite.run(plugins=["asyncio"])
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        ["*the call returns an awaitable (coroutine), and cannot be awaited here, inside of a running event loop"]
    )


def test_codspeeds_fixture_is_left_alone_and_ours_again_without_it(suite):
    suite.write(
        test_suite="""
        import pytest

        @pytest.mark.perf(latency="<=1 s")
        def test_work(benchmark):
            benchmark(sorted, range(100))
        """
    )
    result = suite.run("--codspeed", "--codspeed-max-time=0.05", plugins=["benchmark", "codspeed"])
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["perfsuite left test_suite.py::test_work alone: its fixture benchmark is not pytest-*"]
    )
    result = suite.run("--benchmark-max-time=0.05", plugins=["benchmark"])
    result.stdout.fnmatch_lines(["1 PASS (limits over 1 cases)"])
