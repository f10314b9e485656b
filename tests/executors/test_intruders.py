"""Tests that write into the worker's pipes, stop the clock, or own what only one process can: in real workers."""

import os
import socket
import time

import pytest
from filelock import FileLock

from perfsuite.executors.failures import RevisionFailedError, WorkerGoneError
from perfsuite.executors.workers import Workers
from perfsuite.spec import CANDIDATE
from tests.executors.projects import ALONE, Project

ITEMS = """
import os, socket, time
from contextlib import suppress
from pathlib import Path

import pytest
from filelock import FileLock

import mypkg

def pipes():
    for number in range(3, 2000):
        with suppress(OSError):
            if os.readlink(f"/proc/self/fd/{number}").startswith("pipe:"):
                yield number

def intrude(data):
    for number in pipes():
        with suppress(OSError):
            os.write(number, data)

GARBAGE = {
    "head": b"\\x7f\\xff\\xff\\xff",
    "text": b"x\\n",
    "json": b"[1]\\n",
    "answer": b'{"type":"Ready"}\\n',
}

@pytest.mark.parametrize("kind", GARBAGE)
def test_intrudes(perf, kind):
    intrude(GARBAGE[kind])
    perf(lambda: 1, latency="9%")

@pytest.mark.parametrize("kind", GARBAGE)
def test_intrudes_timed(perf, kind):
    calls = []
    def call():
        calls.append(1)
        if len(calls) == 2:
            intrude(GARBAGE[kind])
    perf(call, latency="9%")

def test_good(perf):
    perf(lambda: sum(range(500)), latency="9%")

def test_hangs(perf):
    time.sleep(600)

def test_closes(perf):
    os.closerange(3, 256)
    perf(lambda: sum(range(500)), latency="9%")

@pytest.fixture
def server():
    with socket.socket() as made:
        made.bind(("127.0.0.1", int(os.environ["PORT"])))
        yield

def test_port(perf, server):
    perf(lambda: 1, latency="9%")

@pytest.fixture
def lock():
    with FileLock(os.environ["LOCK"]):
        yield

def test_lock(perf, lock):
    perf(lambda: 1, latency="9%")

def test_impatient_lock(perf):
    with FileLock(os.environ["LOCK"], timeout=0.1):
        perf(lambda: 1, latency="9%")

def test_named(perf):
    with Path("names").open("a") as file:
        print(os.environ["PERFSUITE_WORKER_ID"], "PERFSUITE_WORKER" in os.environ, file=file)
    perf(lambda: 1, latency="9%")

@pytest.fixture
def frozen(monkeypatch):
    for name in ("monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "time", "time_ns"):
        monkeypatch.setattr(time, name, lambda: 5)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)

def test_frozen(perf, frozen):
    perf(lambda: sum(range(500)), latency="9%")
"""
AT_ONCE = "the session and its fresh processes run at the same time"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return Project(tmp_path_factory.mktemp("intruders"), ITEMS, {"mypkg.py": "SIDE = '{side}'\n"})


@pytest.fixture(scope="module")
def workers(project):
    with Workers(project.launch()) as made:
        yield made


@pytest.fixture
def hasty(project, workers):
    """One that has started, and must answer within a second."""
    project.alone(workers, "test_good").block(1)
    workers.worker(ALONE, 1, {})._launch = project.launch(timeout_s=1)
    return workers


@pytest.mark.parametrize("item", ["test_intrudes", "test_intrudes_timed"])
@pytest.mark.parametrize("kind", ["head", "text", "json", "answer"])
def test_who_writes_into_the_pipe_is_told_and_the_next_item_is_measured(project, workers, item, kind):
    with pytest.raises(WorkerGoneError, match="which is no answer") as caught:
        project.alone(workers, f"{item}[{kind}]").block(1)
    assert "something wrote into perfsuite's own pipe" in caught.value.remedy
    assert project.alone(workers, "test_good").block(1).of(CANDIDATE)


def test_who_closes_all_that_is_open_does_not_reach_the_pipe(project, workers):
    assert project.alone(workers, "test_closes").block(1).of(CANDIDATE)


def test_a_time_limit_holds_where_the_session_has_stopped_the_clock(project, hasty, monkeypatch):
    for name in ("monotonic", "perf_counter", "perf_counter_ns"):
        monkeypatch.setattr(time, name, lambda: 5)
    with pytest.raises(WorkerGoneError, match="did not answer in 1 s"):
        project.alone(hasty, "test_hangs").block(1)


def test_what_is_measured_under_a_stopped_clock_is_measured(project, workers):
    times = project.alone(workers, "test_frozen").block(1).of(CANDIDATE)
    assert min(times) > 100


def test_a_port_that_the_session_has_is_explained(project, monkeypatch):
    with socket.socket() as ours:
        ours.bind(("127.0.0.1", 0))
        monkeypatch.setenv("PORT", str(ours.getsockname()[1]))
        with Workers(project.launch()) as mine, pytest.raises(RevisionFailedError, match="already in use") as caught:
            project.alone(mine, "test_port").block(1)
    assert AT_ONCE in caught.value.remedy
    assert "PERFSUITE_WORKER_ID" in caught.value.remedy


def test_a_lock_that_the_session_has_is_explained(project, monkeypatch, tmp_path):
    path = str(tmp_path / "lock")
    monkeypatch.setenv("LOCK", path)
    with Workers(project.launch()) as mine, FileLock(path):
        with pytest.raises(RevisionFailedError, match="could not be acquired") as caught:
            project.alone(mine, "test_impatient_lock").block(1)
        assert AT_ONCE in caught.value.remedy
        mine.worker(ALONE, 1, {})._launch = project.launch(timeout_s=1)
        with pytest.raises(WorkerGoneError) as hung:
            project.alone(mine, "test_lock").block(1)
    assert "did not answer in 1 s; it was here (innermost call first):" in hung.value.what
    assert " in lock\n" in hung.value.what
    assert "--perf-timeout" in hung.value.remedy
    assert AT_ONCE in hung.value.remedy


def test_each_process_and_each_twin_has_a_name_of_its_own(project, workers):
    for source in (project.alone, project.pairs, project.twins):
        source(workers, "test_named").block(1)
    names = (project.top / "names").read_text().splitlines()
    assert len(set(names)) == len(names) == 5
    assert all(name.endswith(" False") for name in names)
    assert "PERFSUITE_WORKER_ID" not in os.environ
