"""pytest --perf-base: only what a change can have reached is timed, and the report says why."""

import pytest

from tests.plugin.bases import Repository

MODULE = """
def work(n=400):
    return sum(step(i) for i in range(n))


def step(i):
    return i * {number}


def unused():
    return 1
"""
TEST = """
import pytest
from mypkg import m{number}


@pytest.mark.perf(latency="60%", python_calls="0%")
def test_{number}(perf):
    perf(m{number}.work)
"""
ONLY_CHANGED = ""  # what an ini file says by default


@pytest.fixture
def project(tmp_path):
    files = {"src/mypkg/__init__.py": "", "README.md": "# It\n"}
    for number in (1, 2, 3):
        files[f"src/mypkg/m{number}.py"] = MODULE.format(number=number)
        files[f"tests/test_{number}.py"] = TEST.format(number=number)
    return Repository.with_files(tmp_path / "top", files, timed=ONLY_CHANGED)


def proven(run):
    return {name: verdict["proven"] for (name, metric), verdict in run.verdicts.items() if metric == "latency"}


def test_a_change_of_docs_starts_no_process_and_checks_nothing_out(project):
    project.put({"README.md": "# It is\n"})
    run = project.run("--perf-base-build=exit 1", "--perf-audit=0")  # which would fail each checkout
    assert run.status == 0, run.output
    assert set(proven(run).values()) == {"same files"}
    assert run.said("test_1").startswith("the same files ran: 1 file of the project differ from main (")
    assert "not timed, because proven to be the same files: 3 cases" in run.notes
    assert run.of("test_1", "python_calls") == "PASS"


def test_what_a_changed_function_cannot_reach_is_proven_also_after_it_has_run(project):
    """The tests after it are looked at in a fresh process, where it has not."""
    project.put({"src/mypkg/m1.py": MODULE.format(number=1).replace("i * 1", "1 * i").replace("return 1", "return 2")})
    run = project.run("--perf-audit=0")
    assert run.status == 0, run.output
    assert proven(run) == {"test_1": "", "test_2": "same program", "test_3": "same program"}
    assert run.said("test_2").startswith("the same program ran: ")
    assert "timed: 1 case, because src/mypkg/m1.py: step runs, and differs" in run.notes
    assert "1 changed function is measured by nothing: src/mypkg/m1.py: unused" in run.notes


@pytest.mark.slow
def test_changed_functions_that_nothing_measures_can_fail_the_session(project):
    project.put({"src/mypkg/m1.py": MODULE.format(number=1).replace("return 1", "return 2")})
    run = project.run("--perf-require-covered", "--perf-audit=0")
    assert run.status == 1
    assert run.of("test_1") == "PASS"
    assert "src/mypkg/m1.py: unused" in run.output


@pytest.mark.slow
def test_proven_cases_are_audited(project):
    project.put({"README.md": "# It is\n"})
    run = project.run("--perf-audit=1", "test_1.py", cwd=project.folder / "tests")
    assert run.status == 0, run.output
    (detail,) = run.verdicts["test_1", "latency"]["details"]
    assert detail.startswith("audit: timed all the same: latency changed by ")
    assert any("audit: timed all the same" in note for note in run.notes)


@pytest.mark.slow
def test_all_can_be_timed(project):
    project.put({"README.md": "# It is\n"})
    run = project.run("--perf-time=all", "test_1.py", cwd=project.folder / "tests")
    assert run.status == 0, run.output
    assert proven(run) == {"test_1": ""}
    assert not any("timed" in note for note in run.notes)


@pytest.mark.slow
def test_more_calls_of_functions_are_named(project):
    text = MODULE.format(number=1).replace("step(i) for", "step(i) + step(i) for")
    project.put({"src/mypkg/m1.py": text})
    run = project.run("test_1.py", "--perf-audit=0", cwd=project.folder / "tests")
    assert run.of("test_1", "python_calls") == "REGRESSED"
    assert any("+400 mypkg.m1.step" in line for line in run.verdicts["test_1", "python_calls"]["details"])
