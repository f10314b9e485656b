"""A session that is ended by a signal: with real processes, in a session of pytest."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest

from perfsuite.session.signals import Interrupts
from tests.revisions.repositories import Repo

pytestmark = pytest.mark.slow

TESTS = """
import os, signal, subprocess, sys
from pathlib import Path

import pytest
from work import work

IDLE = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]

def test_before():
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

@pytest.fixture(scope="module")
def servers():
    if "PERFSUITE_WORKER_ID" in os.environ:
        made = [subprocess.Popen(IDLE), subprocess.Popen(IDLE, start_new_session=True)]
        Path(os.environ["SERVING"]).touch()
    yield

def test_work(perf, servers):
    perf(work, latency="0.2%")
"""
OPTIONS = ("-q", "-p", "no:randomly", "-p", "no:cacheprovider", "-p", "no:xdist", "--perf-threads=1")


class Sessions:
    """Sessions beside a base revision, which can be told by a variable that all their processes inherit."""

    def __init__(self, folder):
        self.temporary, self.serving = folder / "temporary", folder / "serving"
        self.temporary.mkdir()
        self.repo = Repo.new(folder / "repo")
        self.repo.commit(src__work_py="def work():\n    return sum(range(3000))\n", test_work_py=TESTS)
        self.environment = os.environ | {"TMPDIR": str(self.temporary), "SERVING": str(self.serving)}

    def start(self, *options):
        timed = ("--perf-base=main", "--perf-time=all")  # else nothing would run when it is ended: nothing has changed
        command = [sys.executable, "-m", "pytest", *OPTIONS, *timed, "-o", "pythonpath=src", *options]
        return subprocess.Popen(
            command, cwd=self.repo.folder, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True,
        )  # fmt: skip

    def until_it_serves(self, session):
        while not self.serving.exists():
            assert session.poll() is None, session.stdout.read()
            time.sleep(0.02)

    def until_it_has_a_folder(self, session):
        while not any(self.temporary.glob(f"perfsuite-*-{session.pid}-*")):
            assert session.poll() is None, session.stdout.read()
            time.sleep(0.01)

    def processes(self):
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                ours = process.environ().get("SERVING") == str(self.serving)
                found += [process] if ours and process.status() != psutil.STATUS_ZOMBIE else []
        return found

    def processes_in_the_end(self):
        deadline = time.monotonic() + 10
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.02)
        return left

    def left(self):
        return list(self.temporary.glob("perfsuite-*"))


@pytest.fixture
def sessions(tmp_path):
    made = Sessions(tmp_path)
    yield made
    for process in made.processes():
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT], ids=["TERM", "HUP", "INT"])
def test_a_signal_ends_a_session_as_ctrl_c_does(sessions, number):
    before = sessions.repo.stored()
    session = sessions.start()
    sessions.until_it_serves(session)
    session.send_signal(number)
    output, _ = session.communicate(timeout=60)
    assert session.returncode == pytest.ExitCode.INTERRUPTED
    assert "KeyboardInterrupt" in output
    assert number == signal.SIGINT or f"{number.name} has ended the session" in output
    assert "1 passed" in output
    assert sessions.processes() == []
    assert sessions.left() == []
    assert sessions.repo.stored() == before


def test_whenever_a_session_is_killed_no_process_is_left_and_the_next_one_cleans_up(sessions, tmp_path):
    """At moments from the first thing that it makes to its measurement: that of its workers' starts is among them.

    The next one is of another project, and compares with no base.
    """
    before = sessions.repo.stored()
    for number in range(6):
        session = sessions.start()
        sessions.until_it_has_a_folder(session)
        time.sleep(0.25 * number)
        session.kill()
        session.communicate()
        assert sessions.processes_in_the_end() == []
        assert sessions.repo.stored() == before
    assert sessions.left() != []
    other = tmp_path / "other"
    other.mkdir()
    (other / "test_it.py").write_text("def test_it(perf):\n    perf(list, latency='<=1 s')\n")
    command = [sys.executable, "-m", "pytest", *OPTIONS]
    done = subprocess.run(command, cwd=other, env=sessions.environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert sessions.left() == []


@pytest.fixture
def interrupts():
    made = Interrupts()
    yield made
    made.off()


def test_what_was_set_before_stays(interrupts, monkeypatch):
    seen = []
    before = signal.signal(signal.SIGTERM, lambda *_: seen.append("theirs"))
    try:
        interrupts.on()
        signal.raise_signal(signal.SIGTERM)
        interrupts.off()
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == ["theirs", "theirs"]


def test_what_was_set_meanwhile_stays(interrupts):
    interrupts.on()
    theirs = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    interrupts.off()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    signal.signal(signal.SIGTERM, theirs)
    interrupts.off()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_it_interrupts_until_it_is_held(interrupts):
    interrupts.on()
    with pytest.raises(KeyboardInterrupt, match="SIGHUP has ended the session"):
        signal.raise_signal(signal.SIGHUP)
    interrupts.hold()
    signal.raise_signal(signal.SIGHUP)
    interrupts.off()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


def test_a_fork_ends_as_it_would_have(interrupts):
    interrupts.on()
    ready, started = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(started, b"x")
        for _ in range(1000):
            time.sleep(0.01)
        os._exit(0)
    os.read(ready, 1)
    os.kill(child, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM


def test_another_thread_sets_nothing(interrupts):
    import threading

    thread = threading.Thread(target=interrupts.on)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
