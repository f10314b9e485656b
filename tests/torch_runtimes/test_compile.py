"""torch.compile as a runtime: every law of a runtime, and what no law says."""

import os
import subprocess
import sys

import pytest
import torch

from perfsuite.metric import DISPATCH
from perfsuite.models.seeding import seeded
from perfsuite.protocols import Inputs
from perfsuite.runtimes.compile import RUNTIME
from perfsuite.session.measurable import ModelCase
from perfsuite.techniques.values import parse_technique
from perfsuite.testing import RuntimeContract
from perfsuite.testing.strategies import models
from tests.torch_runtimes.small import SPEC, X, inputs, network, rows_of


class TestCompile(RuntimeContract):
    runtime = RUNTIME
    samples = models(kinds=("MLP",)).filter(lambda sample: not sample.model.training)
    max_examples = 2


@pytest.mark.slow
class TestCompileOnAllKinds(RuntimeContract):
    runtime = RUNTIME


def graphs(call):
    """How many graphs a call compiles."""
    from torch._dynamo.utils import counters

    before = counters["stats"]["unique_graphs"]
    call()
    return counters["stats"]["unique_graphs"] - before


def test_gradients_flow_through_what_is_compiled(tmp_path):
    module = network()
    program = RUNTIME.load(module, inputs(2), tmp_path)
    assert graphs(lambda: program.call(X).sum().backward()) == 1
    module(X).sum().backward()
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(program.call.get_parameter(f"_orig_mod.{name}").grad, parameter.grad)


@pytest.mark.slow
def test_each_program_compiles_its_own_graph_however_many_there_are(tmp_path):
    """Torch compiles no more than eight of the same code, and runs the ninth in eager mode."""
    torch.compiler.reset()
    with torch.no_grad():
        for width in range(8, 18):
            program = RUNTIME.load(network(width), inputs(2), tmp_path)
            assert graphs(lambda: program.call(X)) == 1  # noqa: B023  # called at once


def test_it_hides_its_operators_and_has_its_weights(tmp_path):
    subject = ModelCase(SPEC, parse_technique("fp32"), "cpu", 2, 0, runtime=RUNTIME).subject("candidate")
    assert subject.why_missing(DISPATCH) == "the runtime 'compile' does not show its operators"
    assert not subject.why_not_stored
    assert subject.stored.elements == sum(p.numel() for p in network().parameters())


@pytest.mark.parametrize("technique", ["int8-dynamic", "weight-only-4"])
def test_our_layers_are_compiled(technique, tmp_path):
    model = parse_technique(technique).apply(network(), data=[Inputs((X,))])
    program = RUNTIME.load(model, inputs(2), tmp_path)
    with torch.no_grad():
        assert graphs(lambda: program.call(X)) == 1
        assert rows_of(program.call(X)) == pytest.approx(rows_of(model(X)), rel=1e-4, abs=1e-4)


NO_COMPILER = """
import torch
from pathlib import Path
from perfsuite.errors import UnavailableError
from perfsuite.protocols import Inputs
from perfsuite.registry import RUNTIMES

for name in ("compile", "aot"):
    try:
        RUNTIMES.get(name).load(torch.nn.Linear(2, 2), Inputs((torch.ones(1, 2),)), Path("."))
    except UnavailableError as error:
        print(error)
"""


def test_without_a_compiler_both_say_how_to_get_one(tmp_path):
    environment = {**os.environ, "PATH": str(tmp_path), "CXX": "no-such-compiler"}
    done = subprocess.run(
        [sys.executable, "-c", NO_COMPILER], capture_output=True, text=True, check=False, env=environment, cwd=tmp_path
    )
    for name in ("compile", "aot"):
        assert f"the runtime '{name}' needs a C++ compiler, and there is none that runs\n  remedy: " in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_program_for_one_shape_does_not_depend_on_what_was_compiled_before(tmp_path):
    """Else the second batch size of a process would be compiled for all sizes, and be another program than alone."""
    module, alone = network(), []
    with seeded(0), torch.no_grad():
        for x in (torch.randn(5, 8), torch.randn(3, 8), torch.randn(5, 8)):
            program = RUNTIME.load(module, Inputs((x,)), tmp_path)
            alone.append(graphs(lambda: (program.call(x), program.call(x[:2]))))  # noqa: B023  # called at once
    assert alone == [2, 2, 2], "a program took another size without compiling: it was compiled for all sizes"
