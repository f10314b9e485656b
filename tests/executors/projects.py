"""A project with a base of it, and the worker processes that measure its items: the engine without a session."""

import statistics
import sys
from pathlib import Path

from perfsuite.executors.messages import Boot, Run
from perfsuite.executors.sources import FreshProcesses, ProcessesInTurns
from perfsuite.executors.workers import Launch
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
        def command(folder):
            common = [sys.executable, "-m", "pytest", "test_items.py", *OPTIONS]
            return [*common, f"--basetemp={folder / 'tmp'}", *options]

        return Launch(command, Boot((-1, -1), {}, str(self.top)), self.top, timeout_s)

    def run(self, name, item="", following=""):
        item = f"test_items.py::{item or name}"
        return Run(item, following and f"test_items.py::{following}", f"test_items.py::{name}", (CANDIDATE,), "", 0, 1)

    def alone(self, workers, name, **kwargs):
        return FreshProcesses(workers, "alone", {CANDIDATE: None}, self.run(name, **kwargs), PLAN)

    def twins(self, workers, name, **kwargs):
        return FreshProcesses(workers, "twins", self.revisions, self.run(name, **kwargs), PLAN)

    def pairs(self, workers, name, **kwargs):
        return ProcessesInTurns(workers, "pairs", self.revisions, self.run(name, **kwargs), PLAN)

    @property
    def revisions(self):
        return {CANDIDATE: None, BASE: str(self.base)}


def ratio(block):
    """Of the medians, candidate to base."""
    return statistics.median(block.of(CANDIDATE)) / statistics.median(block.of(BASE))
