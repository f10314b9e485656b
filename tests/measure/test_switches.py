"""The reference workloads depend on nothing that a test can set for the process."""

import sys

import pytest
import torch

from perfsuite.measure.latency import LocalSampler
from perfsuite.measure.switches import as_torch_starts, first_switches, read_switches, write_switches
from perfsuite.measure.yardstick import COPY, MATMUL, TRANSFORMER, yardstick
from perfsuite.spec import YARDSTICK

LEAKS = {
    "default dtype": lambda: torch.set_default_dtype(torch.float64),
    "default device": lambda: torch.set_default_device("meta"),
    "gradients": lambda: torch.set_grad_enabled(False),
    "autocast on cpu": lambda: torch.set_autocast_enabled("cpu", True),
    "deterministic mode": lambda: torch.use_deterministic_algorithms(True, warn_only=True),
    "float32 matmul precision": lambda: torch.set_float32_matmul_precision("medium"),
    "flushing of denormals": lambda: torch.set_flush_denormal(True),
    "mkldnn": lambda: setattr(torch.backends.mkldnn, "enabled", False),
    "flash attention": lambda: torch.backends.cuda.enable_flash_sdp(False),
    "anomaly detection": lambda: torch.set_anomaly_enabled(True),
}


@pytest.fixture(autouse=True)
def as_before():
    before = read_switches()
    yield
    write_switches(before)
    assert read_switches() == before


@pytest.fixture
def inference_mode():
    with torch.inference_mode():
        yield


def work_of(name):
    """The bits of what one call computes."""
    return yardstick(name)().view(torch.int32).tolist()


CLEAN = {name: work_of(name) for name in (TRANSFORMER, MATMUL, COPY)}


@pytest.mark.parametrize("leak", LEAKS)
@pytest.mark.parametrize("name", CLEAN)
def test_a_leak_reaches_no_reference_workload_and_stays_as_it_is(name, leak):
    before = read_switches()
    LEAKS[leak]()
    leaking = read_switches()
    assert {key for key in before if leaking[key] != before[key]} == {leak}
    assert work_of(name) == CLEAN[name]
    assert read_switches() == leaking


def test_nor_does_inference_mode(inference_mode):
    assert work_of(TRANSFORMER) == CLEAN[TRANSFORMER]
    assert not yardstick(MATMUL)().is_inference()
    assert read_switches()["inference mode"]


def test_a_workload_that_is_there_already_is_called_as_torch_starts():
    made = {name: yardstick(name) for name in CLEAN}
    for leak in LEAKS.values():
        leak()
    leaking = read_switches()
    assert {name: made[name]().view(torch.int32).tolist() for name in made} == CLEAN
    assert read_switches() == leaking


def test_timed_calls_are_made_as_torch_starts_and_set_nothing_themselves():
    seen = []
    reference = yardstick(MATMUL)
    watched = type(reference)(lambda: seen.append((torch.get_default_dtype(), sys._getframe(1).f_code.co_name)))
    torch.set_default_dtype(torch.float64)
    arms = LocalSampler({YARDSTICK: watched, "candidate": lambda: seen.append(torch.get_default_dtype())})
    arms.chunk(YARDSTICK, 2, 1, True)
    arms.chunk("candidate", 1, 1, False)
    assert seen[0][0] == seen[1][0] == torch.float32
    assert {caller for _, caller in seen[:-1]} == {"_time"}  # and no function of ours in between
    assert seen[-1] == torch.float64


def test_what_torch_starts_with_is_known():
    with as_torch_starts():
        now = read_switches()
    assert {name: now[name] for name in first_switches()} == first_switches()
