"""What perfsuite judges, with `pytest gates --perf-base=REF`."""

import os

import pytest
import workloads

TOLERANCE = os.environ.get("GATE_POWER_TOLERANCE", "1%")


@pytest.mark.parametrize("name", workloads.NAMES)
def test_speed(perf, name):
    perf(workloads.call(name), latency=TOLERANCE)
