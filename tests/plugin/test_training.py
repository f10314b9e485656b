"""Training steps in a project are recorded and judged; a wrong factor and a wrong name are told."""

import pytest

CONFTEST = """
import torch
from torch import nn
from perfsuite import Built, ModelSpec
from perfsuite.training.losses import CrossEntropy

FACTOR = 1.0

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(*(nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in range(2)))
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.layers(x))

class Loss(CrossEntropy):
    def __call__(self, output, batch):
        return super().__call__(output, batch) * FACTOR

def build(seed):
    torch.manual_seed(seed)
    return Built(Net(), "random-init")

def batches(module, size, seed):
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield [torch.randn(size, 8, generator=generator), torch.randint(0, 3, (size,), generator=generator)]

def inputs(module, size, seed):
    return next(batches(module, size, seed))[0]

def pytest_perfsuite_register(registries):
    registries.models.register("net", ModelSpec("net", build, inputs, loss=Loss(), data=batches))
"""
TEST = """
import pytest

@pytest.mark.perf(models=["net"], workload="train", recipes=["plain", "accumulate-2"], batch_sizes=[6])
def test_step(perf_case):
    perf_case.gate(operators="0%", gradient_norm="0%", loss="0%", gradient_distance="<=1000", final_loss="0%")
"""


@pytest.fixture
def project(pytester):
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(TEST)
    return pytester


def test_a_wrong_factor_is_other_whichever_way_it_goes(project):
    assert project.runpytest("--perf-update").ret == 0
    assert project.runpytest().ret == 0
    for factor in ("2.0", "0.5"):
        project.makeconftest(CONFTEST.replace("FACTOR = 1.0", f"FACTOR = {factor}"))
        result = project.runpytest()
        assert result.ret == 1
        result.stdout.fnmatch_lines(
            ["REGRESSED net/fp32/cpu/b6/train:accumulate-2: gradient_norm", "*other by more than the tolerated 0*"]
        )


def test_each_recipe_is_a_case_of_its_own(project):
    listed = project.runpytest("--collect-only", "-q").stdout.str()
    assert all(f"test_step[{key}]" in listed for key in ("net/fp32/cpu/b6/train", "net/fp32/cpu/b6/train:accumulate-2"))
    one = project.runpytest("--collect-only", "-q", "--perf-recipes=checkpoint").stdout.str()
    assert "train:checkpoint]" in one
    assert "accumulate" not in one


def test_a_recipe_without_a_training_step_is_refused(project):
    project.makepyfile(TEST.replace('workload="train", ', ""))
    result = project.runpytest()
    result.stdout.fnmatch_lines(["*says how a training step is made, and the test has none", "*add workload='train'*"])


def test_a_recipe_with_a_typo_is_told_while_collecting(project):
    project.makepyfile(TEST.replace("accumulate-2", "acumulate-2"))
    result = project.runpytest("--collect-only")
    result.stdout.fnmatch_lines(["*unknown recipe 'acumulate-2'*"])
    assert result.ret != 0


def test_metrics_of_training_are_not_measured_of_forward_passes(project):
    project.makepyfile(
        """
        import pytest

        @pytest.mark.perf(models=["net"])
        def test_forward(perf_case):
            perf_case.gate(loss="0%", gradient_distance="<=5")
        """
    )
    result = project.runpytest("--perf-strict")
    result.stdout.fnmatch_lines(["*loss is measured of training steps", "*add workload='train' to the marker"])
    assert result.ret == 1


@pytest.mark.slow  # samples in fresh processes
def test_a_phase_is_recorded_and_judged(project):
    project.makepyfile(TEST.replace('operators="0%", gradient_norm="0%", loss="0%"', 'forward_time="60%"'))
    options = ("-o", "perf_blocks=1", "-o", "perf_block_time=0.3", "--perf-recipes=plain")
    recorded = project.runpytest("--perf-update", *options)
    assert recorded.ret == 0
    recorded.stdout.fnmatch_lines(["*forward_time*"])
    assert "NO_BASELINE" not in recorded.stdout.str()
