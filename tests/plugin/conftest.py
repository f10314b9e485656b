"""A small project as a user would have one: a model in a module of its own, registered in conftest.py."""

import pytest
import rich.table  # noqa: F401  # and below: pytester forgets modules that a run imports, and these cannot load twice
import safetensors.torch  # noqa: F401
import scipy.special  # noqa: F401
import torch._dynamo  # noqa: F401

import perfsuite.session.session
import perfsuite.techniques.quantization.layers  # noqa: F401
from perfsuite.testing import Simulated

MODEL = """
import torch
from torch import nn

class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(32, 32)

    def forward(self, x):
        return torch.relu(self.linear(x))

class Net(nn.Module):
    def __init__(self, layers=2):
        super().__init__()
        self.layers = nn.Sequential(*(Layer() for _ in range(layers)))
        self.head = nn.Linear(32, 4)

    def forward(self, x):
        return self.head(self.layers(x))
"""

CONFTEST = """
import json
from pathlib import Path

import torch
from perfsuite import Built, ModelSpec
from perfsuite.models.seeding import seeded
from perfsuite.spec import Scores

class Task:
    name = "signs"
    examples = "signs-1"

    def score(self, model):
        with seeded(1), torch.no_grad():
            chosen = model(torch.randn(400, 32)).argmax(-1)
        return Scores(self.name, self.examples, tuple((chosen == Task.right).tolist()))

def build(seed):
    import net
    with seeded(seed):
        return Built(net.Net(), "random-init")

def inputs(module, batch_size, seed):
    with seeded(seed):
        return torch.randn(batch_size, 32)

def pytest_perfsuite_register(registries):
    labels = Path(__file__).with_name("labels.json")  # made once: a defect planted later does not change them
    if not labels.exists():
        with seeded(1), torch.no_grad():
            labels.write_text(json.dumps(build(0).module.eval()(torch.randn(400, 32)).argmax(-1).tolist()))
    Task.right = torch.tensor(json.loads(labels.read_text()))
    registries.models.register("net", ModelSpec("net", build, inputs, Task))
"""


@pytest.fixture
def plain(pytester, not_under_xdist):
    """A project without a model, and so without torch. On one thread: calls this small wait for a second one longer
    than they work, on busy cores."""
    pytester.makeini(
        "[pytest]\naddopts = --strict-markers -p no:randomly -p no:cacheprovider\nperf_blocks = 2\n"
        "perf_block_time = 0.5\nperf_threads = 1\n"
    )
    return pytester


@pytest.fixture
def project(plain):
    plain.makepyfile(net=MODEL)
    plain.makeconftest(CONFTEST)
    return plain


class Simulation:
    """A plugin of runs in this process: what they would measure in fresh ones is simulated, and nothing starts.

    ``planted``: how many times ``ms`` an arm takes there, by its name (perfsuite.testing.Simulated).
    """

    def __init__(self, run):
        self._run = run
        self.planted, self.ms = {}, 10.0

    def pytest_perfsuite_register(self, registries):
        registries.executors.register("simulated", lambda launch: Simulated(self.planted, self.ms))

    def run(self, *options):
        return self._run("--perf-executor=simulated", *options, plugins=[self])


@pytest.fixture
def simulation(plain):
    return Simulation(plain.runpytest_inprocess)


@pytest.fixture
def gate(project):
    """Write a test with these limits, and a function that runs it."""

    def write(limits, marker="models=['net']"):
        project.makepyfile(
            test_gate=f"""
            import pytest
            @pytest.mark.perf({marker})
            def test_gate(perf_case):
                perf_case.gate({limits})
            """
        )
        return project.runpytest_inprocess

    return write
