"""A call that gives work to a device returns at once: what is timed is until the device has done it.

The device here is simulated: none of this has been run on a GPU.
"""

from dataclasses import dataclass, field

import pytest
import torch

from perfsuite.case import Case
from perfsuite.measure import subject
from perfsuite.measure.accelerators import name_of, started, used_by
from perfsuite.measure.clock import SimulatedClock
from perfsuite.measure.latency import LocalSampler, Plan
from perfsuite.measure.repeatable import Repeatable
from perfsuite.session.measurable import CallableCase
from perfsuite.spec import CANDIDATE, YARDSTICK

WORK_NS = 1_000_000


@dataclass
class Simulated:
    """Work is put into a queue, which takes no time; waiting takes the time of all that is in it."""

    device: str = "cpu"  # as far as torch is concerned, where yardsticks are put
    name: str = "Simulated 100"
    clock: SimulatedClock = field(default_factory=SimulatedClock)
    queued_ns: int = 0
    allocated: int = 0

    def give(self, allocate=0):
        self.queued_ns += WORK_NS
        self.allocated += allocate

    def allocations(self):
        return self.allocated

    def is_busy(self):
        return self.queued_ns > 0

    def wait(self):
        self.clock.advance_ns(self.queued_ns)
        self.queued_ns = 0


def test_what_gives_no_work_uses_none():
    device = Simulated("cuda:0")
    device.give()  # somebody else's, before
    assert used_by(lambda: torch.ones(2), [device]) == ()
    assert not device.is_busy()


def test_work_is_seen_in_a_queue_in_memory_and_in_what_is_returned():
    queued, allocating, returned, idle = (Simulated(name) for name in ("cuda:0", "cuda:1", "cpu", "cuda:3"))

    def call():
        queued.give()
        allocating.give(allocate=1)
        allocating.wait()
        return {"logits": [torch.ones(1)]}

    assert used_by(call, [queued, allocating, returned, idle]) == (queued, allocating, returned)


def test_without_an_accelerator_the_call_is_not_made():
    assert used_by(lambda: pytest.fail("it was called"), started()) == ()
    assert CallableCase(Case.of_callable("c"), lambda: pytest.fail("it was called")).accelerator() == ""


def test_a_timed_call_waits_and_its_machine_class_names_the_device(monkeypatch):
    device = Simulated()
    monkeypatch.setattr(subject, "started", lambda: (device,))
    case = CallableCase(Case.of_callable("c"), device.give)
    assert case.accelerator() == "Simulated 100"
    assert case.yardsticks()[0] != "interpreter-1"
    chunk = LocalSampler({CANDIDATE: case.arm(CANDIDATE, "")}, Plan(), device.clock).chunk(CANDIDATE, 3, 2, True)
    assert chunk.calls_ns == (WORK_NS,) * 3
    yardstick = case.arm(YARDSTICK, "matmul-1")
    device.give()
    yardstick()
    assert not device.is_busy()


def test_what_is_made_for_a_call_is_done_before_its_time_begins(monkeypatch):
    device = Simulated()
    monkeypatch.setattr(subject, "started", lambda: (device,))

    def make():
        device.give()
        return (device,)

    case = CallableCase(Case.of_callable("c"), Repeatable(Simulated.give, make))
    arm = case.arm(CANDIDATE, "")
    assert arm.has_setup
    chunk = LocalSampler({CANDIDATE: arm}, Plan(), device.clock).chunk(CANDIDATE, 3, 1, True)
    assert chunk.calls_ns == (WORK_NS,) * 3


def test_equal_devices_are_counted():
    assert name_of([]) == ""
    assert name_of([Simulated(), Simulated()]) == "2x Simulated 100"
    assert name_of([Simulated(name="B"), Simulated(name="A")]) == "A + B"
