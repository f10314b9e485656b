"""Processes start two at a time, and none is still starting while another is timed."""

import dataclasses

import pytest

from perfsuite.executors.failures import WorkerGoneError
from perfsuite.executors.workers import Workers
from perfsuite.spec import CANDIDATE
from tests.executors.projects import ALONE, Project

CONFTEST = """
import os, time
from pathlib import Path

FOLDER = Path(__file__).parent
NUMBER = os.environ["PYTHONHASHSEED"]  # a worker's own number
if NUMBER == "2":
    ending = FOLDER / "ending"
    if ending.exists():
        left = int(ending.read_text())
        ending.write_text(str(left - 1))
        if left > 0:
            os._exit(5)
    time.sleep(0.5)
(FOLDER / f"started {NUMBER}").touch()
"""
ITEMS = """
import gc
from pathlib import Path

FOLDER = Path(__file__).parent
WHILE_IMPORTED = gc.get_threshold()

def test_good(perf):
    there = sorted(file.name for file in FOLDER.glob("started *"))
    (FOLDER / "seen").write_text("\\n".join(there))
    perf(lambda: None, latency="5%")

def test_frozen(perf):
    assert gc.get_freeze_count() > 0
    perf(lambda: None, latency="5%")

def test_collected(perf):
    assert (WHILE_IMPORTED, gc.get_threshold()) == ((0, 0, 0), (700, 10, 10))
    perf(lambda: None, latency="5%")

def test_collected_as_wanted(perf):
    assert gc.get_threshold() == (123, 4, 5)
    perf(lambda: None, latency="5%")
"""


@pytest.fixture
def project(tmp_path):
    made = Project(tmp_path, ITEMS, {"mypkg.py": ""})
    (made.top / "conftest.py").write_text(CONFTEST)
    return made


@pytest.fixture
def workers(project):
    with Workers(project.launch()) as made:
        yield made


def up_to(most, asked, cores=2):
    return dataclasses.replace(asked, executor=dataclasses.replace(asked.executor, cores=cores), most=most)


def test_the_next_process_has_started_before_anything_is_measured(project, workers):
    assert up_to(3, project.alone(workers, "test_good")).block(1).of(CANDIDATE)
    assert (project.top / "seen").read_text().split("\n") == ["started 1", "started 2"]


def test_so_each_second_number_finds_its_process_there(project, workers):
    source = up_to(3, project.alone(workers, "test_good"))
    source.block(1)
    second = workers.worker(ALONE, 2, {})
    source.block(2)
    assert workers.worker(ALONE, 2, {}) is second
    assert not workers.has(ALONE, 3)
    source.block(3)
    assert not workers.has(ALONE, 4)  # only three may be asked for


def test_what_is_not_timed_asks_for_no_second(project, workers):
    up_to(8, project.alone(workers, "test_good", want=frozenset({"facts"}))).result(1)
    assert not workers.has(ALONE, 2)


def test_one_core_starts_one_at_a_time(project, workers):
    up_to(8, project.alone(workers, "test_good"), cores=1).block(1)
    assert not workers.has(ALONE, 2)


def test_one_that_died_while_it_started_is_started_again(project, workers):
    (project.top / "ending").write_text("1")
    source = up_to(2, project.alone(workers, "test_good"))
    assert source.block(1).of(CANDIDATE)
    assert not workers.has(ALONE, 2)
    assert source.block(2).of(CANDIDATE)


def test_one_that_never_starts_says_so_when_its_turn_comes(project, workers):
    (project.top / "ending").write_text("9")
    source = up_to(2, project.alone(workers, "test_good"))
    assert source.block(1).of(CANDIDATE)
    with pytest.raises(WorkerGoneError, match="ended with status 5 before it measured"):
        source.block(2)


def test_one_that_hangs_while_it_starts_is_given_one_time_limit(project, monkeypatch):
    (project.top / "conftest.py").write_text("import time\ntime.sleep(600)")
    with Workers(project.launch(timeout_s=2.0)) as mine:
        source = project.alone(mine, "test_good")
        with pytest.raises(WorkerGoneError, match="did not answer in 2 s") as caught:
            source.block(1)
    assert caught.value.hung


def test_what_was_imported_is_not_searched_for_garbage_again(project, workers):
    """Before each block it is collected, which would take a quarter of a second where much is imported."""
    assert project.alone(workers, "test_frozen").block(1).of(CANDIDATE)


def test_garbage_is_not_collected_while_a_process_starts_and_is_from_then_on(project, workers):
    assert project.alone(workers, "test_collected").block(1).of(CANDIDATE)


def test_a_threshold_of_the_project_stays(project, workers):
    (project.top / "conftest.py").write_text("import gc\ngc.set_threshold(123, 4, 5)\n")
    assert project.alone(workers, "test_collected_as_wanted").block(1).of(CANDIDATE)
