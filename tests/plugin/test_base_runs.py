"""pytest --perf-base in the ways that projects run pytest, and how it ends when it is ended."""

import os
import signal
import subprocess
import time

import psutil
import pytest

from tests.plugin.bases import INI, TIMED, Repository
from tests.revisions.repositories import IDENTITY

WORK = {"src/mypkg/__init__.py": "", "src/mypkg/work.py": "def work(n=800):\n    return sum(range(n))\n"}


MEASURE = "perf(work.work, latency='60%')"


def item(body, header="", name="test_it"):
    return f"{header}\nfrom mypkg import work\n\ndef {name}(perf):\n    {body}\n"


CHOOSES = """
import os
import random
from pathlib import Path

from helper import X
from mypkg import work

def test_it(perf):
    with Path(os.environ["DRAWN"]).open("a") as file:
        print(random.random(), file=file)
    perf(work.work, latency="60%")

def test_other(perf):
    assert False

def test_plain():
    assert False
"""


def test_a_folder_of_a_larger_repository_called_from_below_it_with_other_plugins(tmp_path, monkeypatch):
    """With pytest-randomly, options that choose, a conftest, and tests in a folder that only the ini file names."""
    drawn = tmp_path / "drawn"
    monkeypatch.setenv("DRAWN", str(drawn))
    files = {
        **WORK,
        "checks/deeper/test_work.py": CHOOSES,
        "checks/conftest.py": "import sys\nfrom pathlib import Path\nsys.path.append(str(Path(__file__).parent))\n",
        "checks/helper.py": "X = 'base'",
    }
    made = Repository.with_files(tmp_path / "top", files, below="one/two", ini=INI.replace("= tests", "= checks"))
    made.put({"checks/helper.py": "X, Y = 'here', 1"})
    made.put({"checks/deeper/test_work.py": CHOOSES.replace("import X", "import X, Y")})
    below = made.folder / "one/two/checks/deeper"
    run = made.run(
        "test_work.py", "-k", "it", "-x", "--perf-only", "--perf-strict", "--perf-isolation=processes", cwd=below
    )
    assert (run.status, run.of("test_it")) == (0, "PASS")
    assert made.is_clean()
    here, *both = drawn.read_text().split()
    assert both[::2] == both[1::2]  # each pair of processes draws the same, whatever this one drew
    assert here not in both


def test_a_base_that_cannot_be_imported(tmp_path):
    """A conftest that needs what is new fails every test on the base, each with the reason."""
    made = Repository.with_files(tmp_path / "project", {**WORK, "tests/test_one.py": item(MEASURE)})
    made.put({
        "tests/conftest.py": "from mypkg.new import needed",
        "src/mypkg/new.py": "needed = 1",
        "tests/test_two.py": item(MEASURE, name="test_two"),
    })  # fmt: skip
    run = made.run("-p", "no:randomly")
    assert (run.status, run.of("test_it"), run.of("test_two")) == (1, "NOT_MEASURED", "NOT_MEASURED")
    why = "(ModuleNotFoundError: the base revision has no module 'mypkg.new')"
    assert run.said("test_it").endswith(why)
    assert "it fails on main" in run.said("test_it")
    assert run.said("test_two").endswith(why)
    assert "it is new since main" in run.said("test_two")


def test_a_folder_that_is_new_since_the_base(tmp_path):
    made = Repository.with_files(tmp_path / "project", {})
    made.below = "new"
    made.put({"pytest.ini": INI + TIMED, **WORK, "tests/test_a.py": item(MEASURE)})
    run = made.run("-p", "no:randomly")
    assert (run.status, run.of("test_it")) == (0, "NOT_MEASURED")
    assert "has no folder new, where the tests are run" in run.said("test_it")
    assert made.is_clean()


def test_under_xdist_nothing_is_timed(tmp_path):
    made = Repository.with_files(tmp_path / "project", {**WORK, "tests/test_a.py": item(MEASURE)})
    run = made.run("-n", "2")
    assert (run.status, run.of("test_it")) == (0, "NOT_MEASURED")
    assert "under pytest-xdist" in run.said("test_it")
    assert made.is_clean()


ONCE = """
import builtins, sys, textwrap

STEPS = {"base": 1, "here": 40}["SIDE"]

if hasattr(builtins, "_perfsuite_tests_once"):
    raise RuntimeError("it is registered already")
builtins._perfsuite_tests_once = True
"""
REPLACES = """
import textwrap

STEPS = {"base": 1, "here": 40}["SIDE"]
indent = textwrap.indent

def ours(text, prefix):
    return [indent(text, prefix) for _ in range(STEPS)][0]

textwrap.indent = ours
"""


@pytest.fixture(scope="module")
def not_in_one_process(tmp_path_factory):
    """A package that cannot be loaded twice in a process, and one that replaces what both would get."""
    files = {
        "src/once.py": ONCE.replace("SIDE", "base"),
        "src/replaces.py": REPLACES.replace("SIDE", "base"),
        "tests/test_both.py": """
            import textwrap

            def test_once(perf):
                import once
                perf(lambda: once.STEPS, latency="300%")

            def test_replaces(perf):
                import replaces
                perf(lambda: textwrap.indent("text", " "), latency="60%")

            def test_untouched(perf):
                perf(lambda: 1, latency="60%")
            """,
    }
    made = Repository.with_files(tmp_path_factory.mktemp("not_in_one_process") / "project", files)
    made.put({"src/once.py": ONCE.replace("SIDE", "here"), "src/replaces.py": REPLACES.replace("SIDE", "here")})
    return made


@pytest.mark.slow
def test_where_one_process_is_not_sound_two_tell_the_difference(not_in_one_process):
    run = not_in_one_process.run("-p", "no:randomly")
    assert (run.of("test_once"), run.of("test_replaces")) == ("PASS", "REGRESSED")
    assert "in pairs of 1 fresh process" in run.said("test_once")
    assert run.verdicts["test_replaces", "latency"]["change"] > 3
    assert run.of("test_untouched") == "PASS"
    assert "in pairs of" in run.said("test_untouched")  # two cases were enough to give up twins
    assert [note for note in run.notes if note.startswith("measured in two")] == [
        "measured in two processes for each block, because both in one process failed",
        "measured in two processes for each block, because the project replaces or registers textwrap.indent, "
        "which both revisions would get",
    ]


@pytest.mark.slow
def test_an_accepted_base_catches_drift_and_says_what_it_cannot_compare_with(tmp_path):
    work = "def work(n={n}):\n    return sum(i * i for i in range(n))\n"
    tests = {"tests/test_a.py": item(MEASURE), "tests/test_b.py": item(MEASURE), "tests/test_c.py": item(MEASURE)}
    made = Repository.with_files(
        tmp_path / "project", {"src/mypkg/__init__.py": "", "src/mypkg/work.py": work.format(n=800), **tests}
    )
    update = ("--perf-update", "-p", "no:randomly", "-o", "perf_blocks=1", "tests/test_a.py")
    assert made.run(*update, base="").status == 0
    baseline = (made.folder / "baselines" / "tests-test_a.json").read_text()
    commit = made.git("rev-parse", "--short=12", "HEAD")
    assert commit in baseline
    dirty = baseline.replace("test_a", "test_b").replace(commit, f"{commit}+changes")
    made.put({"baselines/tests-test_b.json": dirty})
    made.commit("baselines")
    for n in (1500, 2800):
        made.put({"src/mypkg/work.py": work.format(n=n)})
        made.commit(f"a small step to {n}")
    run = made.run("-p", "no:randomly", base="accepted")
    said = {one["case"]: (one["status"], one["sentence"]) for one in run.found["verdicts"]}
    status, sentence = said["tests/test_a.py::test_it"]
    assert (status, commit in sentence) == ("REGRESSED", True)
    for file, why in (("b", "+changes: with uncommitted changes"), ("c", "no baseline is stored for it")):
        status, sentence = said[f"tests/test_{file}.py::test_it"]
        assert (status, why in sentence) == ("NOT_MEASURED", True)
    assert made.is_clean()


SLOW = """
import os, subprocess, sys, time
from pathlib import Path
from mypkg import work

calls = []

def slow():
    calls.append(1)
    if len(calls) > 1:  # the first call is the test's own
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        Path(os.environ["STARTED"]).write_text(f"{os.getpid()} {child.pid}")
        time.sleep(600)

def test_it(perf):
    perf(slow, latency="60%")
"""


@pytest.fixture
def slow(tmp_path):
    return Repository.with_files(tmp_path / "project", {**WORK, "tests/test_slow.py": SLOW})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_when_pytest_is_ended(slow, tmp_path, monkeypatch, number):
    """After Ctrl-C and SIGTERM at once; the base of one that was killed is removed at the next start."""
    started, temporary = tmp_path / "started", tmp_path / "temporary"
    temporary.mkdir()
    environment = os.environ | IDENTITY | {"STARTED": str(started), "TMPDIR": str(temporary)}
    command = ["env", "--default-signal=SIGINT", *slow.command("--perf-base=main", "-p", "no:randomly")]
    process = subprocess.Popen(command, cwd=slow.folder, env=environment, stdout=subprocess.DEVNULL)
    try:
        processes = those_that_started(started, process)
        assert list(temporary.glob("perfsuite-base-*")) != []
        process.send_signal(number)
        process.wait(30)
    finally:
        process.kill()
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert [one for one in alive if one.status() != psutil.STATUS_ZOMBIE] == []
    deadline = time.monotonic() + 10  # where pytest was killed, others remove what it had
    while (left := list(temporary.glob("perfsuite-worker-*"))) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert left == []
    assert slow.is_clean()
    if number == signal.SIGKILL:
        assert list(temporary.glob("perfsuite-base-*")) != []
        slow.put({"tests/test_slow.py": item(MEASURE)})
        monkeypatch.setenv("TMPDIR", str(temporary))
        assert slow.run("-p", "no:randomly").of("test_it") == "PASS"
    assert list(temporary.glob("perfsuite-*")) == []


def those_that_started(file, owner):
    deadline = time.monotonic() + 60
    while not file.is_file() or len(file.read_text().split()) < 2:
        assert owner.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return [psutil.Process(int(pid)) for pid in file.read_text().split()]
