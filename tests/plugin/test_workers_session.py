"""The pytest in a worker runs what it is asked for, and leaves alone what is the session's."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = """
import os
from pathlib import Path

def pytest_configure(config):
    config.own_reporter = open("results.txt", "w")

def pytest_collection_modifyitems(items):
    Path("collected.txt").write_text(str(len(items)))
    items[:] = items[::2]  # every second test, as a shard of CI would: fresh processes collect fewer files

def pytest_runtest_logreport(report):
    if report.when == "call":
        with open("outcomes.txt", "a") as file:
            file.write(f"{report.nodeid} {report.outcome}\\n")

def pytest_runtest_makereport(item, call):
    if call.when == "call":
        print(item.nodeid, file=item.config.own_reporter, flush=True)

def pytest_sessionfinish(session):
    Path("finished.txt").write_text(str(session.testscollected))

def pytest_unconfigure(config):
    os.replace("finished.txt", "last.txt")
"""

TESTS = """
import logging
from pathlib import Path

def work():
    return sum(range(1000))

def test_plain():
    pass

def test_first(perf):
    logging.getLogger().warning("one line of the session")
    perf(work, latency="300%")
    with Path("written_by_tests.txt").open("a") as file:
        file.write("x")

def test_second(perf):
    perf(work, latency="300%")

def test_third(perf):
    with Path("written_before_measuring.txt").open("a") as file:
        file.write("x")
    perf(work, latency="300%")
"""


@pytest.mark.slow
def test_a_worker_runs_items_that_others_deselect_and_writes_nothing_of_the_session(plain):
    plain.makeconftest(CONFTEST)
    plain.makepyfile(test_a="def test_a(): pass\ndef test_b(): pass\ndef test_c(): pass\n", test_b=TESTS)
    arguments = ("-p", "no:cacheprovider", "-o", "log_file=log.txt", "--debug=trace.txt", "--junitxml=junit.xml")
    result = plain.runpytest_subprocess("--perf-update", "-x", "--pdb", *arguments)
    result.assert_outcomes(passed=4)
    folder = plain.path
    assert list(json.loads((folder / "baselines" / "test_b.json").read_text())["cases"]) == [
        "test_b.py::test_first",
        "test_b.py::test_third",
    ]
    ran = ["test_a.py::test_a", "test_a.py::test_c", "test_b.py::test_first", "test_b.py::test_third"]
    read = {path.name: path.read_text() for path in folder.glob("*.txt")}
    assert read.pop("results.txt").splitlines() == ran
    assert read.pop("outcomes.txt").splitlines() == [f"{name} passed" for name in ran]
    assert read.pop("collected.txt") == "7"
    assert read.pop("trace.txt").count("pytest_sessionstart [hook]") == 1
    assert read.pop("last.txt") == "4"
    assert read.pop("log.txt").count("one line of the session") == 1
    assert read.pop("written_by_tests.txt") == "x"  # after the measurement, which ends a worker's test
    assert read.pop("written_before_measuring.txt") == "xxx"  # what tests write is real: here of two workers, too
    assert not read
    assert (folder / "junit.xml").read_text().count("<testcase") == 4


SHADOWED = """
import queue, sys

def test_f(perf):
    if sys.flags.optimize != 1 or not hasattr(queue, "Queue"):
        raise RuntimeError(f"{sys.flags} {queue}")
    perf(sum, [1], latency="<=1 ns")
"""


def test_a_worker_has_the_flags_of_python_and_no_module_that_only_the_folder_holds(plain):
    plain.makepyfile(queue="raise RuntimeError('it shadows the standard library')")
    tests = plain.mkdir("tests")
    (tests / "test_f.py").write_text(SHADOWED)
    script = str(Path(sys.executable).parent / "pytest")
    done = subprocess.run(
        [sys.executable, "-O", script, "tests", "-p", "no:randomly"], cwd=plain.path, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert "REGRESSED tests/test_f.py::test_f: latency" in done.stdout, done.stdout + done.stderr
