"""A training step is gated as a forward pass is, and keeps the laws of every workload."""

import pytest

from conftest import TrainingStep
from perfsuite.testing import WorkloadContract, models


@pytest.mark.perf(models=["encoder-small"], techniques=["fp32", "magnitude-50"], workload="descent", batch_sizes=[2])
def test_a_training_step(perf_case):
    perf_case.gate(operators="0%", peak_memory="0%", flops="0%")


@pytest.mark.perf(models=["encoder-small"], workload=["forward", "descent"])
def test_beside_a_forward_pass(perf_case):
    perf_case.gate(sqnr=">=100 dB")


class TestTrainingStep(WorkloadContract):
    workload = TrainingStep()
    samples = models(kinds=["encoder", "MLP", "convolution"]).filter(lambda sample: not sample.model.training)
