import hypothesis.strategies as st
import pytest
import torch

from conftest import CPU_TIME, LAYERS, NEAR, NearZero, build
from perfsuite.protocols import Inputs
from perfsuite.testing import MetricContract
from perfsuite.testing.strategies import Sample


@pytest.mark.perf(models=["regressor"], techniques=["bf16"], batch_sizes=[64])
def test_every_shape(perf_case):
    perf_case.gate(
        cpu_time="50%", examples_per_cpu_second="50%",
        biases="0%", layers="0%",
        squared_error="10%", near="2pp",
        largest_difference="<=0.02",
    )  # fmt: skip


class OfRegressors(MetricContract):
    """The laws are checked on the models that the metrics are for."""

    make_task = NearZero
    samples = st.integers(0, 9).map(lambda seed: Sample(build(seed).module, Inputs((torch.ones(2, 16),)), f"{seed=}"))


class TestCpuTime(OfRegressors):
    metric = CPU_TIME


class TestLayers(OfRegressors):
    metric = LAYERS


class TestNear(OfRegressors):
    metric = NEAR
