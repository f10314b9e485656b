"""Each law of executors is seen to fail for one with the defect that it is for, and holds for ours."""

import subprocess
import sys
from contextlib import closing

import pytest
from msgspec.structs import replace

from perfsuite.errors import PerfsuiteError
from perfsuite.executors.local import LocalProcesses
from perfsuite.executors.named import NamedModels
from perfsuite.executors.this_process import ThisProcess
from perfsuite.testing import ExecutorContract, executors
from perfsuite.testing.executors import JOBS

IDLE = [sys.executable, "-c", "import time; time.sleep(600)"]


class Here:
    """This process, in which each defect is planted."""

    def __init__(self):
        self._real = ThisProcess(NamedModels().prepare)

    def submit(self, jobs):
        yield from self._real.submit(jobs)

    def close(self):
        pass


class Loses(Here):
    def submit(self, jobs):
        yield from super().submit(jobs[1:])


class AnswersTwice(Here):
    def submit(self, jobs):
        for result in super().submit(jobs):
            yield result
            yield result


class AnswersForAnother(Here):
    def submit(self, jobs):
        for result in super().submit(jobs):
            yield replace(result, job="another")


class TimesNothing(Here):
    def submit(self, jobs):
        for result in super().submit(jobs):
            yield replace(result, block=None)


class LosesItsSeed(Here):
    def submit(self, jobs):
        for job in jobs:
            for result in super().submit([replace(job, seed=0)]):
                yield replace(result, job=job.id)


class UsesTwoMachines(Here):
    def submit(self, jobs):
        for number, result in enumerate(super().submit(jobs)):
            yield replace(result, machine=f"machine {number}")


class BuildsAnother(Here):
    def submit(self, jobs):
        for job in jobs:
            for result in super().submit([replace(job, arms=("original", "magnitude-60"))]):
                yield replace(result, job=job.id)


class SwallowsFailures(Here):
    def submit(self, jobs):
        try:
            yield from super().submit(jobs)
        except PerfsuiteError:
            return


class GoesOnAfterwards(Here):
    left = ()

    def submit(self, jobs):
        jobs, self.left = [*self.left, *jobs], ()
        for number, job in enumerate(jobs):
            self.left = jobs[number + 1 :]
            yield from super().submit([job])


class LeavesAProcess(Here):
    def submit(self, jobs):
        self.idle = subprocess.Popen(IDLE)
        yield from super().submit(jobs)


PLANTED = {
    Loses: "answers_each_job_once",
    AnswersTwice: "answers_each_job_once",
    AnswersForAnother: "answers_each_job_once",
    TimesNothing: "answers_each_job_once",
    LosesItsSeed: "answers_each_job_once",
    UsesTwoMachines: "answers_each_job_once",
    BuildsAnother: "finds_the_same_in_any_order_and_place",
    SwallowsFailures: "passes_on_what_fails",
    GoesOnAfterwards: "stops_when_it_is_closed",
    LeavesAProcess: "stops_when_it_is_closed",
}


@pytest.mark.parametrize("defect", PLANTED, ids=lambda defect: defect.__name__)
def test_a_planted_defect_is_seen(defect, monkeypatch):
    monkeypatch.setattr(executors, "_PATIENCE_S", 0.1)
    made, law = defect(), PLANTED[defect]
    timed = [replace(job, want=frozenset({"block"})) for job in JOBS]
    try:
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            getattr(executors, law)(lambda: made, JOBS if law.startswith("finds") else timed)
    finally:
        if isinstance(made, LeavesAProcess):
            made.idle.kill()
            made.idle.wait()


@pytest.mark.slow
class TestLocalProcesses(ExecutorContract):
    def executor(self):
        return LocalProcesses()


@pytest.mark.slow
def test_arms_that_have_a_process_each_find_the_same():
    """Of the last arm, whichever process it is in."""
    job = replace(JOBS[0], apart=True)
    with closing(LocalProcesses()) as executor:
        (result,) = executor.submit([job])
    (here,) = Here().submit([JOBS[0]])
    assert {chunk.arm for chunk in result.block.chunks} == set(job.arms)
    assert result.measured["magnitude-50"] == here.measured["candidate"]
