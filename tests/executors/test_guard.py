"""The guard of a command, as the program that it is: nothing that the command started is left, whatever is killed."""

import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest

from perfsuite.executors.processes import end, guarded, wait

# Two that have left the group, of which one has lost its parent, and one that has not.
BROOD = """
import os, subprocess, sys, time
idle = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
subprocess.Popen(idle)
subprocess.Popen(idle, start_new_session=True)
if os.fork() == 0:
    subprocess.Popen(idle, start_new_session=True)
    os._exit(0)
os.wait()
"""
READY = "print('ready', flush=True)\n"
HANG = READY + "time.sleep(600)\n"


@pytest.fixture
def marked(monkeypatch, tmp_path):
    """The processes that were started since, found by a variable that they inherit."""
    monkeypatch.setenv("GUARD_TEST", str(tmp_path))

    def found():
        processes = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("GUARD_TEST") == str(tmp_path) and process.status() != psutil.STATUS_ZOMBIE:
                    processes.append(process)
        return processes

    yield found
    for process in found():
        process.kill()


def start(code, **options):
    command = guarded([sys.executable, "-S", "-c", code], **options)
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


def become(marked, number):
    """At once, on any machine that is not overloaded. A process that has just begun shows no variables yet."""
    deadline = time.monotonic() + 10
    while len(left := marked()) != number and time.monotonic() < deadline:
        time.sleep(0.02)
    return len(left) == number


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("", 0),
        ("raise SystemExit(3)", 3),
        ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL),
        ("import os; os.abort()", -signal.SIGABRT),
    ],
)
def test_it_ends_as_the_command_did(code, status, tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    assert start(code, folder=kept).wait(30) == status
    assert kept.is_dir()  # it belongs to a process that is alive


def test_a_command_that_is_not_there_is_named():
    done = subprocess.run(guarded(["no-such-command"]), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (127, "no-such-command: No such file or directory\n")


@pytest.mark.parametrize("code", ["", "os.kill(os.getpid(), 9)"], ids=["ends", "is killed"])
def test_when_the_command_ends_nothing_of_it_is_left(code, marked):
    guard = start(BROOD + code)
    guard.wait(30)
    assert marked() == []


def test_when_it_is_asked_to_end_nothing_of_it_is_left(marked):
    guard = start(BROOD + HANG)
    assert guard.stdout.readline() == "ready\n"
    assert become(marked, 5)
    end(guard)
    assert marked() == []


def test_it_asks_politely_first_where_it_is_told_to(tmp_path):
    polite = "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
    guard = start(polite + HANG, grace_s=20)
    assert guard.stdout.readline() == "ready\n"
    guard.terminate()
    assert guard.wait(30) == 7


def test_what_does_not_listen_is_killed_after_its_grace():
    deaf = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    guard = start(deaf + HANG, grace_s=0.2)
    assert guard.stdout.readline() == "ready\n"
    guard.terminate()
    assert guard.wait(30) == -signal.SIGKILL


OWNER = """
import signal, subprocess, sys, time
from pathlib import Path
from perfsuite.executors.processes import guarded
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_DFL)  # whoever starts the tests may ignore them
command = guarded([sys.executable, "-S", "-c", sys.argv[1]], folder=Path(sys.argv[2]))
subprocess.Popen(command, start_new_session=True)
time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_when_the_owner_is_killed_nothing_is_left(number, marked, tmp_path):
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    command = [sys.executable, "-c", OWNER, BROOD + HANG, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as owner:
        assert owner.stdout.readline() == "ready\n"
        owner.send_signal(number)
    assert become(marked, 0)
    assert not folder.exists()


def test_a_command_whose_owner_is_gone_is_ended_at_once(tmp_path):
    """The owner may be killed in the moment in which the guard starts."""
    folder = tmp_path / "folder"
    folder.mkdir()
    command = guarded([sys.executable, "-S", "-c", "import time\n" + HANG], folder=folder)
    command[command.index(str(os.getpid()))] = str(os.getppid())
    assert subprocess.run(command, check=False, timeout=60).returncode == -signal.SIGKILL
    assert not folder.exists()


def test_what_the_command_is_given_is_not_held_by_the_guard():
    """A pipe that the command closes has an end."""
    reads, writes = os.pipe()
    code = f"import os, time\nos.close({writes})\n"
    command = guarded([sys.executable, "-S", "-c", code + HANG])
    guard = subprocess.Popen(command, pass_fds=[writes], stdout=subprocess.DEVNULL, start_new_session=True)
    os.close(writes)
    assert select.select([reads], [], [], 30)[0]
    assert os.read(reads, 1) == b""
    assert guard.poll() is None
    end(guard)
    os.close(reads)


def test_a_guard_that_is_killed_takes_the_command_along(marked):
    guard = start("import time\n" + HANG)
    assert guard.stdout.readline() == "ready\n"
    guard.kill()
    guard.wait()
    assert become(marked, 0)


def test_it_is_small_and_there_before_the_command(marked):
    guard = start("import time\n" + HANG)
    assert guard.stdout.readline() == "ready\n"
    assert psutil.Process(guard.pid).memory_info().rss < 32e6
    end(guard)


def test_the_command_has_the_signals_of_a_new_process():
    code = "import signal; print([signal.getsignal(n).name for n in (13, 15, 1, 10, 6, 17)])"
    plain = [sys.executable, "-I", "-S", "-c", code]
    both = [subprocess.run(command, capture_output=True, text=True).stdout for command in (plain, guarded(plain))]
    assert both[0] == both[1] != ""


def test_waiting_gives_up_where_a_test_has_stopped_the_clock(monkeypatch):
    for name in ("monotonic", "perf_counter", "perf_counter_ns", "time"):
        monkeypatch.setattr(time, name, lambda: 5)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    guard = start("import time\n" + HANG)
    assert guard.stdout.readline() == "ready\n"
    assert not wait(guard, 0.2)
    end(guard)
    assert guard.returncode == -signal.SIGKILL
