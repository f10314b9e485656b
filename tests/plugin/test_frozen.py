"""A suite that stops the clock in its tests, as a whole session."""

import pytest

pytestmark = pytest.mark.slow

TESTS = """
import time

import pytest

@pytest.fixture
def frozen(monkeypatch):
    for name in ("monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "time", "time_ns"):
        monkeypatch.setattr(time, name, lambda: 5)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)

def test_in_place(perf, frozen):
    perf(lambda: sum(range(1000)), latency="<=1 s")

def test_in_fresh_processes(perf, frozen):
    perf(lambda: sum(range(1000)), latency="5%")
"""


def test_a_stopped_clock_stops_no_session(plain):
    plain.makepyfile(test_frozen=TESTS)
    result = plain.runpytest_subprocess("--perf-update", timeout=120)
    result.stdout.fnmatch_lines(["PASS * us", "RECORDED * us", "*2 passed*"])
