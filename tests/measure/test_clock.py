"""The real clock is not what tests put in the place of the module time."""

import subprocess
import sys
import time

import pytest

from perfsuite.measure.clock import Deadline, RealClock


def moves():
    before, deadline = RealClock.now_ns(), Deadline.after(0.02)
    while not deadline.is_over:
        assert 0 < deadline.left_s <= 0.02
        RealClock.sleep(0.005)
    assert deadline.left_s == 0
    return RealClock.now_ns() - before


@pytest.fixture
def frozen(monkeypatch):
    for name in ("monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "time", "time_ns"):
        monkeypatch.setattr(time, name, lambda: 5)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


def test_it_goes_on_where_a_test_has_stopped_time(frozen):
    assert moves() >= 20_000_000


UNDER_FREEZEGUN = """
import time
import freezegun
from perfsuite.measure.clock import RealClock

with freezegun.freeze_time("2020-01-01"):
    assert time.perf_counter_ns() == time.perf_counter_ns()
    began = RealClock.now_ns()
    RealClock.sleep(0.02)
    print(RealClock.now_ns() - began)
"""


def test_it_goes_on_under_freezegun():
    """In a process of its own: freezegun looks into every module that is loaded, and makes lazy ones load all."""
    pytest.importorskip("freezegun")
    done = subprocess.run([sys.executable, "-c", UNDER_FREEZEGUN], capture_output=True, text=True, check=True)
    assert int(done.stdout) >= 20_000_000


def test_it_goes_on_under_time_machine():
    time_machine = pytest.importorskip("time_machine")
    with time_machine.travel(0, tick=False):
        assert moves() >= 20_000_000


def test_pytest_takes_it_before_any_conftest():
    code = "import perfsuite.plugin.hooks, sys; print('perfsuite.measure.clock' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "True False\n"
