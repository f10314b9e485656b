"""A call that gives work to a GPU is timed until the GPU has done it."""

import statistics

import pytest
import torch

from perfsuite.case import Case
from perfsuite.measure.accelerators import started, used_by
from perfsuite.measure.clock import RealClock
from perfsuite.measure.latency import LocalSampler, Plan
from perfsuite.measure.profile import profile
from perfsuite.measure.yardstick import ALL
from perfsuite.session.measurable import CallableCase
from perfsuite.spec import CANDIDATE, YARDSTICK


@pytest.fixture
def product(cuda):
    """Milliseconds of work, which is handed over in microseconds."""
    a = torch.randn(8192, 8192, device=cuda)
    return lambda: torch.mm(a, a)


def by_events(call):
    """Milliseconds, as the device counts them."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


def test_work_is_seen_while_the_device_is_busy_with_it(product):
    (device,) = started()
    product()
    assert device.is_busy()
    device.wait()
    assert not device.is_busy()
    assert used_by(product, [device]) == (device,)
    assert used_by(lambda: torch.ones(3), [device]) == ()


def test_a_call_takes_as_long_as_the_device_works(product):
    case = CallableCase(Case.of_callable("product"), product)
    arm = case.arm(CANDIDATE, "")
    arm()
    device_ms = statistics.median(by_events(product) for _ in range(5))
    chunk = LocalSampler({CANDIDATE: arm}, Plan(), RealClock()).chunk(CANDIDATE, 5, 1, True)
    assert statistics.median(chunk.calls_ns) / 1e6 >= 0.9 * device_ms
    assert case.accelerator() == torch.cuda.get_device_name()


@pytest.mark.parametrize("name", [name for name in ALL if name != "interpreter-1"])
def test_reference_workloads_run_on_the_device(product, name):
    case = CallableCase(Case.of_callable("product"), product)
    assert name in case.yardsticks()
    allocated = torch.cuda.memory_allocated()
    arm = case.arm(f"{YARDSTICK}:{name}", name)
    assert torch.cuda.memory_allocated() > allocated
    arm()


def test_a_profile_has_the_time_of_kernels(product):
    found = profile(product)
    assert found["aten::mm"] / 1e3 >= 0.5 * by_events(product)
