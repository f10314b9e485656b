"""Callables that take no time, or a minute, on a simulated clock."""

import math

from perfsuite.case import Case
from perfsuite.executors.jobs import Job
from perfsuite.executors.this_process import Prepared, ThisProcess
from perfsuite.measure.clock import SimulatedClock
from perfsuite.measure.latency import Plan
from perfsuite.spec import BASE, CANDIDATE
from perfsuite.stats.blocks import block_effect

S = 1_000_000_000


def block(plan=None, **durations_ns):
    clock, calls = SimulatedClock(), []

    def arm(name, ns):
        def call():
            calls.append(name)
            clock.advance_ns(ns)

        return call

    arms = {name: arm(name, ns) for name, ns in durations_ns.items()}
    job = Job(case=Case.of_callable("test_x.py::test_x"), plan=plan or Plan())
    (result,) = ThisProcess(lambda job: Prepared(arms), clock).submit([job])
    return result.block, calls, clock.now_ns()


def test_a_call_of_a_minute_is_made_a_few_times_only():
    """One to warm up and two that are timed, of each: the budget is spent, and the orders are balanced."""
    sampled, calls, ns = block(**{CANDIDATE: 60 * S, BASE: 60 * S})
    assert len(calls) == 6
    assert ns == 360 * S
    order = [chunk.arm for chunk in sampled.chunks]
    assert order == order[::-1]
    assert order.count(CANDIDATE) == 2
    assert block_effect(sampled, CANDIDATE, BASE).value == 0


def test_a_slow_call_that_became_slower_is_seen_in_one_block():
    sampled, _, _ = block(**{CANDIDATE: 60 * S, BASE: 20 * S})
    assert math.isclose(block_effect(sampled, CANDIDATE, BASE).value, math.log(3))


def test_calls_that_take_no_time_have_a_finite_effect():
    sampled, calls, _ = block(Plan(chunk_ns=100_000, rounds=2), **{CANDIDATE: 0, BASE: 0})
    effect = block_effect(sampled, CANDIDATE, BASE)
    assert (effect.value, math.isfinite(effect.se)) == (0, True)
    assert calls.count(CANDIDATE) == calls.count(BASE)
