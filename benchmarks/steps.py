"""Whether a training step is judged as well as a forward pass: the same six models, beside a base, tolerance 5%.

Each model is so many equal residual blocks, that one more in ten makes a step 10% longer in all of its phases, but for
the head: that change, and a change of a comment alone, are judged in sessions of pytest (``--perf-base``) that take
turns. A case is decided rightly where it PASSes without a change and is REGRESSED with it; what is INCONCLUSIVE is not
decided.

    .venv/bin/python benchmarks/steps.py                # about half an hour
    .venv/bin/python benchmarks/steps.py --sessions 1   # to try it
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from power.changes import commit, git

NET = '''"""Six models of BLOCKS residual blocks each."""

import torch
import torch.nn.functional as F
from torch import nn

BLOCKS = 20


class Dense(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x):
        return self.down(F.gelu(self.up(x)))


class Attention(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm, self.inside, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        q, k, v = self.inside(self.norm(x)).unflatten(-1, (3, 4, -1)).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Convolution(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x):
        return F.relu(self.conv(x))


class Net(nn.Module):
    """(B, T, width), or (B, width, H, W), to (B, 10)."""

    def __init__(self, kind, width):
        super().__init__()
        self.blocks = nn.ModuleList(kind(width) for _ in range(BLOCKS))
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        for block in self.blocks:
            x = x + 0.1 * block(x)
        return self.head(x.mean((2, 3)) if x.dim() == 4 else x.mean(1))


SHAPES = {
    "dense-64": (Dense, 64, (16, 64)),
    "dense-256": (Dense, 256, (16, 256)),
    "attention-64": (Attention, 64, (16, 64)),
    "attention-192": (Attention, 192, (32, 192)),
    "convolution-8": (Convolution, 8, (8, 16, 16)),
    "convolution-24": (Convolution, 24, (24, 16, 16)),
}
'''
CONFTEST = '''"""Registers them."""

import itertools

import torch

import net
from perfsuite import Built, ModelSpec
from perfsuite.models.seeding import seeded
from perfsuite.training.losses import CrossEntropy


def spec(name):
    kind, width, shape = net.SHAPES[name]

    def build(seed):
        with seeded(seed):
            return Built(net.Net(kind, width), "random-init")

    def inputs(module, batch_size, seed):
        return torch.randn(batch_size, *shape, generator=torch.Generator().manual_seed(seed))

    def data(module, batch_size, seed):
        labels = torch.arange(batch_size) % 10
        return itertools.repeat([inputs(module, batch_size, seed), labels])

    return ModelSpec(name, build, inputs, loss=CrossEntropy(), data=data)


def pytest_perfsuite_register(registries):
    for name in net.SHAPES:
        registries.models.register(name, spec(name))
'''
TEST = """import pytest
from net import SHAPES


@pytest.mark.perf(models=list(SHAPES), workload="{workload}", batch_sizes=[4])
def test_{workload}(perf_case):
    perf_case.gate(latency="5%")
"""
WORKLOADS = ("forward", "train")
CHANGES = {"a comment": ("Six models", "The six models"), "two blocks of twenty more": ("BLOCKS = 20", "BLOCKS = 22")}
RIGHT = {"a comment": "PASS", "two blocks of twenty more": "REGRESSED"}


def project(folder):
    """A git repository of the models and their tests, as one commit."""
    (folder / "net.py").write_text(NET)
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "pytest.ini").write_text("[pytest]\npythonpath = .\n")
    for workload in WORKLOADS:
        (folder / f"test_{workload}.py").write_text(TEST.format(workload=workload))
    git(folder, "init", "--quiet")
    (folder / ".gitignore").write_text("__pycache__/\nreport.json\n")
    commit(folder, "Six models")


def session(folder, workload, change):
    """Statuses of the six cases, and the seconds of the whole session."""
    old, new = CHANGES[change]
    (folder / "net.py").write_text(NET.replace(old, new, 1))
    report, start = folder / "report.json", time.perf_counter()
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider",
               f"test_{workload}.py", "--perf-base=HEAD", "--perf-time=all", f"--perf-report={report}"]  # fmt: skip
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if not report.exists():
        sys.exit(f"error: the session has written no report:\n{done.stdout[-2000:]}")
    verdicts = json.loads(report.read_text())["verdicts"]
    return [verdict["status"].upper() for verdict in verdicts if verdict["metric"] == "latency"], seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=5, help="of each workload and change")
    given = parser.parse_args()
    if given.sessions < 1:
        sys.exit("error: without a session nothing is judged: give --sessions 1 or more")
    cells = [(workload, change) for change in CHANGES for workload in WORKLOADS]
    statuses, seconds = {cell: Counter() for cell in cells}, dict.fromkeys(cells, 0.0)
    with tempfile.TemporaryDirectory(prefix="steps-") as folder:
        project(Path(folder))
        for number in range(given.sessions):
            for cell in cells[:: -1 if number % 2 else 1]:
                found, took = session(Path(folder), *cell)
                statuses[cell].update(found)
                seconds[cell] += took
            print(f"\r{number + 1} of {given.sessions} sessions of each", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    print(f"{'change':28}{'workload':10}{'cases':>6}{'right':>7}{'wrong':>7}{'inconclusive':>14}{'s a session':>13}")
    for (workload, change), found in statuses.items():
        right, unclear = found[RIGHT[change]], found["INCONCLUSIVE"]
        wrong = found.total() - right - unclear
        print(f"{change:28}{workload:10}{found.total():6}{right:7}{wrong:7}{unclear:14}"
              f"{seconds[workload, change] / given.sessions:13.1f}")  # fmt: skip


if __name__ == "__main__":
    main()
