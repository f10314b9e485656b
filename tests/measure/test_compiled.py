"""What is compiled stays compiled, and what is observed is its eager run."""

import subprocess
import sys

import torch
from torch import nn

from perfsuite.measure.facts import facts_of
from perfsuite.measure.subject import Subject
from perfsuite.measure.trace import trace
from perfsuite.protocols import Inputs
from perfsuite.registry import METRICS

OBSERVE = [METRICS.get(name) for name in ("operators", "flops", "peak_memory")]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x):
        return torch.relu(self.linear(x))


class Backend:
    """Compiles to what it is given, and counts how often that runs."""

    def __init__(self):
        self.runs = 0

    def __call__(self, graph, inputs):
        def run(*args):
            self.runs += 1
            return graph.forward(*args)

        return run


def test_what_is_observed_before_its_first_call_is_compiled_afterwards():
    torch.compiler.reset()
    backend = Backend()
    model = torch.compile(Net().eval(), backend=backend)
    x = torch.ones(1, 8)
    seen = trace(lambda: model(x))
    assert backend.runs == 0
    assert seen.operators == trace(lambda: model._orig_mod(x)).operators
    model(x)
    model(x)
    assert backend.runs == 2


def test_facts_of_a_compiled_model_are_those_of_its_eager_run():
    torch.compiler.reset()
    backend, x = Backend(), Inputs((torch.ones(2, 8),))
    with torch.no_grad():
        model = torch.compile(Net().eval(), backend=backend)
        subject = Subject.of_model(model, x)
        assert facts_of(subject, OBSERVE) == facts_of(Subject.of_model(model._orig_mod, x), OBSERVE)
        before = backend.runs
        subject.call()
    assert backend.runs == before + 1


LATE = """
import sys
import torch
from tests.measure.test_compiled import Backend, Net
from perfsuite.measure.trace import trace

backend, found = Backend(), []
net, x = Net().eval(), torch.ones(1, 8)

def compiles_itself():
    if not found:
        found.append(torch.compile(net, backend=backend))
    return found[0](x)

assert "torch._dynamo" not in sys.modules
trace(compiles_itself)
assert "torch._dynamo" in sys.modules
before = backend.runs
compiles_itself()
print(backend.runs - before)
"""


def test_what_compiles_itself_while_it_is_observed_is_compiled_afterwards():
    """Nobody had loaded the compiler when the observation began."""
    done = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("1\n", 0), done.stderr
