"""A project with a base of it, and the worker processes that measure its items: executors without a session."""

import statistics
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import msgspec

from perfsuite.case import Case
from perfsuite.executors.fresh_processes import FreshProcesses
from perfsuite.executors.jobs import Executor, Job
from perfsuite.executors.messages import Boot
from perfsuite.executors.processes_in_turns import ProcessesInTurns
from perfsuite.executors.workers import FOLDER, Launch
from perfsuite.measure.latency import Plan
from perfsuite.spec import BASE, CANDIDATE

PLAN = Plan(chunk_ns=1_000_000, rounds=2, warmup_ns=1_000_000)
PLUGINS = ("hypothesispytest", "anyio", "benchmark", "xdist", "xdist.looponfail", "randomly", "cacheprovider")
OPTIONS = ["-q", "-s", *(word for name in PLUGINS for word in ("-p", f"no:{name}"))]


class Project:
    """Sources below src/ in both trees, with {side} replaced; tests only in the working tree."""

    def __init__(self, folder, tests, sources):
        self.top, self.base = Path(folder, "project"), Path(folder, "base", "project")
        for side, tree in (("here", self.top), ("base", self.base)):
            for name, text in sources.items():
                (tree / "src" / name).parent.mkdir(parents=True, exist_ok=True)
                (tree / "src" / name).write_text(text.replace("{side}", side))
            (tree / "pytest.ini").write_text("[pytest]\npythonpath = src\n")
        (self.top / "test_items.py").write_text(tests)

    def launch(self, *options, timeout_s=60.0):
        common = [sys.executable, "-m", "pytest", "test_items.py", *OPTIONS]
        command = (*common, f"--basetemp={FOLDER}/tmp", *options)
        return Launch(command, Boot((-1, -1), {}, str(self.top)), self.top, timeout_s)

    def job(self, name, item="", following="", **what):
        return Job(
            case=Case.parse(f"test_items.py::{name}"), item=f"test_items.py::{item or name}",
            following=following and f"test_items.py::{following}", plan=PLAN, **what,
        )  # fmt: skip

    def alone(self, workers, name, **what):
        return Asked(FreshProcesses(workers), self.job(name, **what))

    def twins(self, workers, name, **what):
        return Asked(FreshProcesses(workers), self.job(name, revisions=self.revisions, **what))

    def pairs(self, workers, name, **what):
        return Asked(ProcessesInTurns(workers), self.job(name, revisions=self.revisions, **what))

    @property
    def revisions(self):
        return {CANDIDATE: None, BASE: str(self.base)}


ALONE = (("candidate", None),)  # the kind of a worker that shows the working tree


@dataclass
class Asked:
    """Jobs of one test that differ in their numbers, one asked for at a time; ``most`` may be asked for in all."""

    executor: Executor
    job: Job
    most: int = 1

    def result(self, number):
        numbers = range(number, max(number, self.most) + 1)
        jobs = [msgspec.structs.replace(self.job, number=n, examined=n > 1) for n in numbers]
        with closing(self.executor.submit(jobs)) as results:
            return next(results)

    def block(self, number):
        return self.result(number).block


def ratio(block):
    """Of the medians, candidate to base."""
    return statistics.median(block.of(CANDIDATE)) / statistics.median(block.of(BASE))
