"""A model that is deployed ahead of time is gated as any other: a layer more is red beside a stored baseline."""

import textwrap
from pathlib import Path

import pytest

MODEL = """
import torch
from perfsuite import Built, ModelSpec
from small import Network

LAYERS = 1

def build(seed):
    torch.manual_seed(seed)
    return Built(Network(width=32, layers=LAYERS), "random-init")

def inputs(module, batch_size, seed):
    return torch.randn(batch_size, 8, generator=torch.Generator().manual_seed(seed))

def pytest_perfsuite_register(registries):
    registries.models.register("net", ModelSpec("net", build, inputs))
"""
GATE = """
import pytest

@pytest.mark.perf(models=["net"], runtimes=["aot"])
def test_it(perf_case):
    perf_case.gate(size="0%", sqnr=">=80 dB")

@pytest.mark.perf(models=["net"], runtimes=["aot"])
def test_operators(perf_case):
    perf_case.gate(operators="<=99")
"""


@pytest.fixture
def run(pytester):
    pytester.makeini("[pytest]\naddopts = -p no:randomly -p no:cacheprovider\nperf_threads = 1\n")
    pytester.makeconftest(MODEL)
    small = Path(__file__).with_name("small.py").read_text()
    pytester.makepyfile(test_gate=textwrap.dedent(GATE), small=small)
    return pytester.runpytest_subprocess


@pytest.mark.slow
def test_a_layer_more_is_red_and_what_nobody_sees_is_not_measured(pytester, run):
    recorded = run("--perf-update", "-k", "test_it")
    recorded.stdout.fnmatch_lines(["PASS*net/fp32@aot/cpu/b1*", "*1 case recorded in*"])
    same = run("-v")
    same.stdout.fnmatch_lines(["*1 NOT_MEASURED, 2 PASS*"])
    same.stdout.fnmatch_lines(["*operators was not measured: the runtime 'aot' does not show its operators*"])
    assert "REGRESSED" not in same.stdout.str()
    conftest = pytester.path / "conftest.py"
    conftest.write_text(conftest.read_text().replace("LAYERS = 1", "LAYERS = 2"))
    more = run("-k", "test_it")
    more.assert_outcomes(failed=1)
    more.stdout.fnmatch_lines(["*REGRESSED net/fp32@aot/cpu/b1: size", "*size is * accepted was * worse by more*"])
