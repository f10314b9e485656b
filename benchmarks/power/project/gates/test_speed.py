"""What perfsuite judges, with `pytest gates --perf-base=REF`."""

import pytest
import workloads


@pytest.mark.parametrize("name", workloads.NAMES)
def test_speed(perf, name):
    perf(workloads.call(name), latency="1%")
