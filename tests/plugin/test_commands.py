"""The commands that are printed work where they are printed: each is run in a shell, as a person pastes it."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from perfsuite.plugin.commands import _starts_xdist, alone_command
from perfsuite.plugin.options import resolve

pytestmark = pytest.mark.slow

TESTS = """
import pytest

@pytest.mark.xdist_group("one")
@pytest.mark.parametrize("text", ["it's", 'a "b" $HOME', "[x] y@z"])
def test_work(perf, text):
    perf(sorted, list(text), latency="1000%")
"""
INI = """
[pytest]
addopts = --strict-markers -p no:randomly -n 2 --dist loadgroup --perf-skip
perf_base = main
perf_blocks = 2
perf_block_time = 0.3
perf_threads = 1
"""


def pasted(command, cwd):
    """What the shell makes of it, in an environment where pytest is ours."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, shell=True, cwd=cwd, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=300
    )
    return done.returncode, done.stdout + done.stderr


def remedy(output, words):
    """The command of the first remedy in which these words stand: the rest of its line."""
    (line, *_) = [line for line in output.splitlines() if line.lstrip().startswith("remedy") and words in line]
    return line[line.index(f"{words}: ") + len(words) + 2 :]


@pytest.fixture
def below(pytester, not_under_xdist):
    """A folder below the root, with spaces and letters of its own, in a suite that runs in parallel as a rule."""
    pytester.makefile(".ini", pytest=INI)
    folder = pytester.mkdir("tests für alle")
    (folder / "test_a b.py").write_text(TESTS)
    return folder


def test_remedies_work_below_the_root_in_a_suite_that_skips_compares_and_runs_in_parallel(below):
    """Under xdist nothing is timed; run alone there is no baseline; it is recorded; and it is judged by that."""
    _, first = pasted("pytest --perf-only -p no:hypothesispytest -o perf_base=", below)
    assert "3 NOT_MEASURED" in first
    alone = remedy(first, "run the performance tests by themselves, without -n")
    assert alone == "pytest --perf-only -p no:hypothesispytest -o perf_base= -n 0"
    status, second = pasted(alone, below)
    assert (status, "3 NO_BASELINE" in second) == (1, True), second
    assert (
        "yet; this records them all: pytest --perf-update --perf-only -p no:hypothesispytest -o perf_base= -n 0"
        in second
    )
    lines = second.split("= perfsuite =")[0].splitlines()
    commands = [line.partition("record it: ")[2] for line in lines if "record it: " in line]
    assert ["1 test collected" in pasted(f"{command} --collect-only", below)[1] for command in commands] == 3 * [True]
    status, recorded = pasted(commands[1], below)
    assert (status, "1 RECORDED" in recorded) == (0, True), recorded
    status, judged = pasted(alone, below)
    assert (status, "2 NO_BASELINE, 1 PASS" in judged) == (1, True), judged
    (stored,) = (below.parent / "baselines").rglob("*.json")
    assert "@one" not in stored.read_text()  # the name that a case has without loadgroup


def test_accept_beats_what_the_ini_file_says(below):
    status, said = pasted("perfsuite baseline accept -n0 -k HOME", below)
    assert (status, "1 RECORDED" in said) == (0, True), said


def test_options_that_say_where_tests_are_stand_in_the_command_again(pytester):
    pytester.makefile(".cfg", other="[tool:pytest]\n")
    typed = ("-pno:randomly", "-c", "other.cfg", f"--rootdir={pytester.path}", "-o", "perf_seed=3", "-k", "x", "a dir")
    pytester.mkdir("a dir")
    config = pytester.parseconfigure(*typed, "--perf-threads=1")
    resolve(config)
    assert shlex.split(alone_command(config)) == [
        "pytest", "--perf-only", "--perf-threads=1", "-c", "other.cfg", f"--rootdir={pytester.path}",
        "-p", "no:randomly", "-o", "perf_seed=3", *shlex.split(alone_command(config))[-1:],
    ]  # fmt: skip
    assert shlex.split(alone_command(config))[-1] == "a dir"


@pytest.mark.parametrize(
    ("ini", "environment", "stands"),
    [
        ("-n 2", "", True),
        ("-nauto", "", True),
        ("", "--numprocesses=2", True),
        ("", "--dist load --tx 2*popen", True),
        ("--no-header -p no:cacheprovider -k not-n", "", False),
    ],
)
def test_xdist_is_turned_off_where_it_is_added_to_each_command(pytester, monkeypatch, ini, environment, stands):
    pytester.makeini(f"[pytest]\naddopts = {ini}\n")
    monkeypatch.setenv("PYTEST_ADDOPTS", environment)
    config = pytester.parseconfig()
    resolve(config)
    assert (alone_command(config).endswith(" -n 0")) is stands


def test_what_selects_is_repeated_where_else_the_added_selection_would_count(pytester):
    pytester.makeini("[pytest]\naddopts = -m 'not perf'\n")
    config = pytester.parseconfig("-m", "perf or slow", "-k", "fast", "--pyargs", "pkg.tests")
    resolve(config)
    assert alone_command(config) == "pytest --perf-only -m 'perf or slow' --pyargs pkg.tests"


def test_a_flag_that_the_suite_has_is_set_as_an_ini_key(pytester):
    adds = "def pytest_addoption(parser):\n    parser.addoption('--perf-only', help='its own')\n"
    pytester.makeconftest(adds)
    config = pytester.parseconfig()
    resolve(config)
    assert alone_command(config) == "pytest -o perf_only=true"


def test_words_that_start_xdist():
    assert not any(map(_starts_xdist, ("--no-cov", "-no-such", "--nothing", "--distance=3", "not-n")))
