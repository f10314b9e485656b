"""What pytest-benchmark measures."""

import pytest
import workloads


@pytest.mark.parametrize("name", workloads.NAMES)
def test_speed(benchmark, name):
    benchmark(workloads.call(name))
