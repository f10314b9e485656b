"""Counters are read around each timing, as the clock is: on simulated time, with simulated counters."""

import itertools
import math
import time

import pytest

from perfsuite.errors import UnavailableError
from perfsuite.measure.clock import SimulatedClock
from perfsuite.measure.counters import Counting, Readers, counters_of
from perfsuite.measure.latency import Plan, sample_block
from perfsuite.measure.repeatable import Repeatable
from perfsuite.metric import TIME, Direction, Exact, Metric, Sampled
from perfsuite.spec import Limit, LimitKind
from perfsuite.units import Unit

MS = 1_000_000


class Meter:
    """Counts what it is told to; ``step``: it shows whole steps only, as a slow counter does."""

    def __init__(self, step=0.0):
        self.used, self.step = 0.0, step

    def use(self, amount):
        self.used += amount

    def read(self):
        return self.used // self.step * self.step if self.step else self.used


def worker(clock, meter, duration_ns, amount):
    def call():
        clock.advance_ns(duration_ns)
        meter.use(amount)

    return call


def sample(clock, arms, meters, **plan):
    readers = Readers.of({name: (lambda meter=meter: meter) for name, meter in meters.items()})
    return sample_block(arms, seed=0, fresh=False, threads=1, clock=clock, plan=Plan(**plan), readers=readers)


def test_a_block_samples_time_and_counters_at_once():
    clock, joules, bytes_ = SimulatedClock(), Meter(), Meter()

    def other():
        clock.advance_ns(2 * MS)
        joules.use(7.0)
        bytes_.use(100)

    block = sample(clock, {"a": worker(clock, joules, MS, 3.0), "b": other}, {"J": joules, "B": bytes_}, rounds=4)
    assert set(block.of("a")) == {MS}
    assert {chunk.counted["J"] for chunk in block.chunks if chunk.arm == "a"} == {3.0}
    assert set(block.amounts("b", "J")) == {7.0}
    assert set(block.amounts("b", "B")) == {100.0}
    assert set(block.amounts("a", "B")) == {0.0}
    assert set(block.amounts("b")) == {0.002}


def test_calls_that_are_timed_together_are_counted_apart():
    clock, joules = SimulatedClock(), Meter()
    block = sample(clock, {"a": worker(clock, joules, 1000, 0.25)}, {"J": joules}, rounds=2)
    assert set(block.amounts("a", "J")) == {0.25}


def test_a_counter_that_is_coarser_than_a_call_is_summed_over_the_chunk():
    """Ten calls of 1 ms in a chunk, 0.3 J each, on a counter that shows whole joules."""
    clock, joules = SimulatedClock(), Meter(step=1.0)
    block = sample(clock, {"a": worker(clock, joules, MS, 0.3)}, {"J": joules}, rounds=20)
    amounts = block.amounts("a", "J")
    assert all(amount > 0 for amount in amounts)
    assert sum(amounts) / len(amounts) == pytest.approx(0.3, rel=0.1)


def test_what_a_call_is_prepared_with_is_not_counted():
    clock, joules = SimulatedClock(), Meter()

    def made():
        joules.use(1000)
        return (), {}

    def work():
        clock.advance_ns(MS)
        joules.use(2.0)

    block = sample(clock, {"a": Repeatable(work, made)}, {"J": joules}, rounds=2)
    assert set(block.amounts("a", "J")) == {2.0}


@pytest.mark.parametrize("second", [-5.0, math.nan, math.inf])
def test_a_counter_that_falls_is_told_apart_from_one_that_stands(second):
    values = itertools.chain([1.0, 4.0, 4.0, second], itertools.repeat(9.0))
    meter = type("Falling", (), {"read": lambda self: next(values)})()
    counting = Counting(Readers({"J": meter}))
    for _ in range(3):
        with counting:
            pass
    assert counting.per_call(2) == {"J": -1.0}
    still = Counting(Readers({"J": Meter()}))
    with still:
        pass
    assert still.per_call(2) == {"J": 0.0}


def test_without_counters_nothing_is_kept_beside_time():
    clock = SimulatedClock()
    block = sample(clock, {"a": worker(clock, Meter(), MS, 1.0)}, {}, rounds=2)
    assert {tuple(chunk.counted) for chunk in block.chunks} == {()}
    assert block.uncounted == {}


def test_a_counter_that_is_not_there_leaves_the_reason_on_the_block():
    def absent():
        raise UnavailableError("only root may read it", "run as root")

    clock, meter = SimulatedClock(), Meter()
    readers = Readers.of({"J": absent, "B": lambda: meter})
    block = sample_block(
        {"a": worker(clock, meter, MS, 1.0)}, seed=0, fresh=False, threads=1, clock=clock, plan=Plan(rounds=2),
        readers=readers,
    )  # fmt: skip
    assert block.uncounted == {"J": "only root may read it"}
    assert set(block.chunks[0].counted) == {"B"}


def test_a_call_that_raises_passes_through():
    with pytest.raises(ZeroDivisionError):
        sample(SimulatedClock(), {"a": lambda: 1 / 0}, {"J": Meter()})


def test_which_counters_limits_need():
    def limit(name, probe):
        return Limit(Metric(name, Unit.NUMBER, Direction.LOWER, probe), LimitKind.RELATIVE, 0.1, "10%")

    asked = [limit("latency", Sampled(TIME)), limit("cpu", Sampled(time.process_time)), limit("size", Exact(len))]
    assert counters_of(asked) == {"cpu": time.process_time}
    assert counters_of([limit("per_cpu", Sampled(time.process_time, rate=True))]) == {"per_cpu": time.process_time}


def test_the_built_in_counter_is_one_like_any_other():
    reader = TIME()
    first = reader.read()
    assert 0 <= reader.read() - first < 60
