"""What proof instead of time saves: a suite of 100 cases over 20 modules, after changes of several kinds.

Each change is judged beside the revision before it (``--perf-base``), and beside that stands what somebody does who
knows which module a change is in: only that module's tests, all of them timed. The suite is written to a temporary
folder; its models are small, so that what is not timing counts most.

    .venv/bin/python benchmarks/proof.py                    # some ten minutes on two cores
    .venv/bin/python benchmarks/proof.py --modules 4        # to try it
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

MODULE = '''"""Model {number}."""

import torch
from torch import nn

SCALE = {number}


class Block(nn.Module):
    """A layer with a residual."""

    def __init__(self, width):
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, x):
        return x + torch.relu(self.linear(x)) * {number}

    def reset(self):
        nn.init.zeros_(self.linear.weight)


class Model(nn.Module):
    def __init__(self, width=128, depth=4):
        super().__init__()
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


def build(width):
    torch.manual_seed(0)
    return Model(width).eval()


def unused(x):
    return x + 1
'''
TEST = """import pytest
import torch

from models import m{number}


@pytest.mark.perf(latency="5%")
@pytest.mark.parametrize("width", {widths})
def test_m{number}(perf, width):
    model, x = m{number}.build(width), torch.ones(8, width)
    with torch.inference_mode():
        perf(model, x)
"""
INI = "[pytest]\npythonpath = .\naddopts = -q -p no:cacheprovider -p no:randomly\n"


@dataclass(frozen=True)
class Suite:
    """A repository with a suite, and a change in it."""

    folder: Path
    threads: int

    @staticmethod
    def written(folder, modules, cases, threads):
        widths = [64 + 32 * n for n in range(cases)]
        files = {"pytest.ini": INI, "README.md": "# Models\n", "models/__init__.py": "", ".gitignore": "__pycache__\n"}
        for number in range(modules):
            files[f"models/m{number}.py"] = MODULE.format(number=number)
            files[f"tests/test_m{number}.py"] = TEST.format(number=number, widths=widths)
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        suite = Suite(folder, threads)
        suite.git("init", "-q", "-b", "main")
        suite.git("add", "-A")
        suite.git("commit", "-qm", "base")
        return suite

    def git(self, *arguments):
        settings = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *settings, *arguments], cwd=self.folder, check=True, capture_output=True)

    def change(self, *changes):
        self.git("checkout", "-q", ".")
        for name, before, after in changes:
            path = self.folder / name
            assert before in path.read_text(), (name, before)
            path.write_text(path.read_text().replace(before, after, 1))

    def run(self, *options):
        """Seconds, and how many cases were timed."""
        start = time.perf_counter()
        command = [sys.executable, "-m", "pytest", f"--perf-threads={self.threads}", *options]
        done = subprocess.run(command, cwd=self.folder, env=os.environ, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - start
        if done.returncode > 1:
            raise SystemExit(done.stdout + done.stderr)
        passed = re.search(r"(\d+) PASS(?: \((\d+) of them proven)?", done.stdout)
        everything = sum(int(n) for n in re.findall(r"(\d+) (?:PASS|IMPROVED|REGRESSED|INCONCLUSIVE)\b", done.stdout))
        proven = int(passed[2] or 0) if passed else 0
        return seconds, everything - proven


CHANGES = {
    "docs": (("README.md", "# Models", "# The models"),),
    "a comment": (("models/m1.py", "SCALE", "# Why.\nSCALE"),),
    "a function that nobody uses": (("models/m1.py", "return x + 1", "return x + 2"),),
    "one function": (("models/m1.py", "x + torch.relu(self.linear(x))", "torch.relu(self.linear(x)) + x"),),
    "a constant that nobody reads": (("models/m1.py", "SCALE = 1", "SCALE = 2"),),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modules", type=int, default=20)
    parser.add_argument("--cases", type=int, default=5, help="of each module")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    table = Table(
        "change", "cases timed", "seconds", "beside", "ratio or difference", title="beside the revision before"
    )
    with tempfile.TemporaryDirectory() as folder:
        suite = Suite.written(Path(folder) / "suite", given.modules, given.cases, given.threads)
        collecting, _ = suite.run("--collect-only")
        for name, changes in CHANGES.items():
            suite.change(*changes)
            seconds, timed = suite.run("--perf-base=main", "--perf-audit=0")
            alone = suite.run("tests/test_m1.py", "--perf-base=main", "--perf-time=all")[0] if timed else collecting
            beside = f"{alone:.1f} s: {'the module alone, timed' if timed else 'collecting'}"
            compared = f"{seconds / alone:.2f}x" if timed else f"+{seconds - alone:.1f} s"
            table.add_row(name, f"{timed} of {given.modules * given.cases}", f"{seconds:.1f}", beside, compared)
    Console(width=140).print(table)
    print(
        f"gates: one function 1.5x (aim 1.2x); docs and comments 3 s over collecting (aim 1 s); {os.cpu_count()} cores"
    )


if __name__ == "__main__":
    main()
