"""A block of several layouts: the test runs again in the same process, so that what it times lies elsewhere."""

import dataclasses
from itertools import count

import msgspec
import pytest

from perfsuite.executors.workers import Workers
from perfsuite.measure.clock import RealClock
from perfsuite.spec import BASE, CANDIDATE
from tests.executors.projects import PLAN, Project

LAYOUTS = 3
ITEMS = """
import os
import time
from pathlib import Path
import mypkg

RUNS = Path(__file__).parent / "runs"

def ran(name):
    with RUNS.open("a") as file:
        print(name, os.getpid(), file=file)

def test_good(perf):
    ran("good")
    perf(lambda: None, latency="1%")

def test_once(perf):
    ran("once")
    assert RUNS.read_text().count("once") <= 2  # once for each revision
    perf(lambda: None, latency="1%")

def test_slow(perf):
    ran("slow")
    perf(lambda: time.sleep(0.05), latency="1%")
"""


class SlowlyReached:
    """A clock by which everything takes an hour."""

    def __init__(self):
        self.now_ns = count(0, 3_600_000_000_000).__next__


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path, ITEMS, {"mypkg.py": "SIDE = '{side}'"})


def sampled(project, name, clock=None, budget_ns=PLAN.budget_ns):
    """A block of twins, and what their tests wrote when they ran."""
    plan = dataclasses.replace(PLAN, layouts=LAYOUTS, budget_ns=budget_ns)
    with Workers(project.launch()) as workers:
        asked = project.twins(workers, name)
        executor = dataclasses.replace(asked.executor, clock=clock or RealClock())
        asked = dataclasses.replace(asked, executor=executor, job=msgspec.structs.replace(asked.job, plan=plan))
        return asked.block(1), (project.top / "runs").read_text().splitlines()


def chunks(block):
    return [sum(chunk.arm == arm for chunk in block.chunks) for arm in (CANDIDATE, BASE)]


def test_the_test_runs_for_each_in_one_process_and_all_their_chunks_are_one_block(project):
    block, runs = sampled(project, "test_good")
    assert chunks(block) == [LAYOUTS * PLAN.rounds] * 2
    assert len(runs) == 2 * LAYOUTS
    assert len(set(runs)) == 1  # one process


def test_a_test_that_can_run_but_once_in_a_process_has_one(project):
    block, runs = sampled(project, "test_once")
    assert chunks(block) == [PLAN.rounds] * 2
    assert len(runs) == 2 + 1  # the first revision failed, so the other one never ran again


def test_what_is_reached_slowly_is_sampled_on_as_it_is(project):
    block, runs = sampled(project, "test_good", clock=SlowlyReached())
    assert chunks(block) == [LAYOUTS * PLAN.rounds] * 2
    assert len(runs) == 2


@pytest.mark.parametrize("clock", [None, SlowlyReached()])
def test_calls_that_take_longer_than_is_planned_are_sampled_once(project, clock):
    block, runs = sampled(project, "test_slow", clock=clock, budget_ns=30_000_000 if clock is None else 1)
    assert chunks(block) == [PLAN.rounds] * 2
    assert len(runs) == 2
