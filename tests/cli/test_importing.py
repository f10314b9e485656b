"""``perfsuite import`` on what the real pytest-benchmark writes here, and the gate that judges by it."""

import json
import math

import pytest
import scipy.special  # noqa: F401  # pytester forgets modules that a run imports, and this cannot load twice
from typer.testing import CliRunner

import perfsuite.session.session  # noqa: F401
from perfsuite.baseline.machine import this_machine, usable_cores
from perfsuite.baseline.store import Store
from perfsuite.cli.app import app
from perfsuite.errors import UsageError
from perfsuite.spec import SECOND

pytest.importorskip("pytest_benchmark")
BENCHMARKED = """
def work():
    return sum(i * i for i in range({count}))

def test_work(benchmark):
    assert benchmark(work) == work()
"""
GATED = "import pytest\npytestmark = pytest.mark.perf(latency='400%')\n" + BENCHMARKED
QUICK = ("--benchmark-max-time=0.05", "--benchmark-min-rounds=5")


@pytest.fixture
def project(pytester, monkeypatch, not_under_xdist):
    monkeypatch.chdir(pytester.path)
    pytester.makeini(
        "[pytest]\naddopts = -p no:randomly -p no:cacheprovider -p no:xdist\nperf_blocks = 2\nperf_block_time = 0.5\n"
    )
    return pytester


def invoke(*arguments):
    return CliRunner().invoke(app, ["import", *map(str, arguments)], catch_exceptions=True)


@pytest.mark.slow
def test_a_saved_folder_becomes_a_baseline_that_judges(project):
    """Two saved runs; then the same tests, with the marker, pass; slower by far, they fail."""
    project.makepyfile(test_b=BENCHMARKED.format(count=2000))
    for _ in range(2):
        assert project.runpytest_inprocess("--benchmark-autosave", *QUICK).ret == 0
    done = invoke(".benchmarks")
    assert done.exit_code == 0, done.output
    assert "test_b.py::test_work:" in done.output
    assert "2 runs" in done.output
    assert "imported 1 cases into baselines" in done.output
    here = this_machine(usable_cores())
    time = Store(project.path / "baselines").entry("test_b", "test_b.py::test_work").time[here.id]
    assert (time.yardstick, len(time.log_ratios)) == (SECOND, 2)

    project.makepyfile(test_b=GATED.format(count=2000))
    result = project.runpytest_inprocess(*QUICK)
    result.assert_outcomes(passed=1)
    project.makepyfile(test_b=GATED.format(count=200_000))
    result = project.runpytest_subprocess(*QUICK)  # fresh processes have what this one has, such as torch
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*REGRESSED test_b.py::test_work: latency", "*in raw time over * fresh block(s)*"])


def test_the_fixture_perf_is_judged_by_an_imported_time_as_well(project):
    project.makepyfile(test_b=BENCHMARKED.format(count=2000))
    assert project.runpytest_inprocess("--benchmark-json=run.json", *QUICK).ret == 0
    assert invoke("run.json").exit_code == 0
    project.makepyfile(
        test_b="def test_work(perf):\n    perf(lambda: sum(i * i for i in range(2000)), latency='400%')\n"
    )
    result = project.runpytest_inprocess()
    result.assert_outcomes(passed=1)


def test_what_is_stored_is_kept_unless_it_is_to_be_replaced(project):
    project.makepyfile(test_b=BENCHMARKED.format(count=2000))
    assert project.runpytest_inprocess("--benchmark-json=run.json", *QUICK).ret == 0
    assert invoke("run.json").exit_code == 0
    again = invoke("run.json")
    assert isinstance(again.exception, UsageError)
    assert "--replace" in again.exception.remedy
    run = json.loads((project.path / "run.json").read_text())
    run["benchmarks"][0]["stats"]["median"] = 1.0
    (project.path / "run.json").write_text(json.dumps(run))
    assert invoke("run.json", "--replace").exit_code == 0
    (time,) = Store(project.path / "baselines").entry("test_b", "test_b.py::test_work").time.values()
    assert time.log_ratios == (math.log(1.0),)


def test_a_new_case_is_imported_beside_one_that_is_kept(project):
    project.makepyfile(test_b=BENCHMARKED.format(count=2000))
    assert project.runpytest_inprocess("--benchmark-json=run.json", *QUICK).ret == 0
    assert invoke("run.json").exit_code == 0
    run = json.loads((project.path / "run.json").read_text())
    run["benchmarks"].append({**run["benchmarks"][0], "fullname": "test_c.py::test_new"})
    (project.path / "run.json").write_text(json.dumps(run))
    done = invoke("run.json")
    assert done.exit_code == 0
    assert "kept: test_b.py::test_work" in done.output
    assert "imported 1 cases" in done.output


def test_our_own_export_for_pytest_benchmark_comes_back(project):
    """What --perf-report=x.pytest-benchmark.json wrote names its machine as we do."""
    project.makepyfile(test_b="def test_work(perf):\n    perf(lambda: sum(range(2000)), latency='<=1 s')\n")
    assert project.runpytest_inprocess("--perf-report=run.pytest-benchmark.json").ret == 0
    done = invoke("run.pytest-benchmark.json")
    assert done.exit_code == 0, (done.output, done.exception)
    assert "test_b.py::test_work" in done.output


def test_what_is_left_out_is_said_and_ends_with_4(project):
    """Two runs of one commit that differ fourfold, one of an older commit, and one that is truncated."""
    project.makepyfile(test_b=BENCHMARKED.format(count=2000))
    assert project.runpytest_inprocess("--benchmark-json=run.json", *QUICK).ret == 0
    run = json.loads((project.path / "run.json").read_text())
    folder = project.mkdir("saved")
    for name, commit, day, median in (("1", "a", 1, 1.0), ("2", "b", 2, 0.1), ("3", "b", 3, 0.4)):
        run["benchmarks"][0]["stats"]["median"] = median
        changed = {"commit_info": {"id": commit * 40}, "datetime": f"2026-01-0{day}T10:00:00+00:00"}
        (folder / f"{name}.json").write_text(json.dumps(run | changed))
    done = invoke("saved")
    assert done.exit_code == 0
    assert "left out: saved/1.json, recorded on commit aaaaaaaaaaaa, not bbbbbbbbbbbb" in done.output
    assert "2 runs, spread 98.0%; its runs differ too much to tell even a doubled time" in done.output
    (folder / "4.json").write_text(json.dumps(run)[:200])
    done = invoke("saved", "--replace", "--commit", "aaa")
    assert done.exit_code == 4
    assert "unusable: saved/4.json is not pytest-benchmark's" in done.output
    (time,) = Store(project.path / "baselines").entry("test_b", "test_b.py::test_work").time.values()
    assert (time.commit, time.log_ratios) == ("a" * 12, (0.0,))
