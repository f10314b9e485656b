"""Run with --perf-executor=process-pool, a judged time comes from it; comparisons name it; and it keeps the laws."""

import pytest

import perfsuite
from conftest import ProcessPool
from perfsuite.comparison.timing import Sampling
from perfsuite.testing import ExecutorContract


@pytest.mark.perf(models=["encoder-small"], techniques=["magnitude-50"], batch_sizes=[2])
def test_a_time_is_recorded_and_judged(perf_case):
    perf_case.gate(latency="400%", size="0%")


def test_a_comparison_is_measured_there():
    sampling = Sampling(blocks=1)
    report = perfsuite.benchmark_optimizations(
        "encoder-small", ["magnitude-50"], batch_sizes=[1], sampling=sampling, fresh="process-pool"
    )
    assert [block.fresh for block in report.study.blocks[1]] == [True]


class TestProcessPool(ExecutorContract):
    def executor(self):
        return ProcessPool()
