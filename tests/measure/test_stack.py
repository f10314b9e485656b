"""Calls that cross a boundary of Python's stack map memory each time, which page faults tell without a clock."""

import resource
import sys

import pytest

from perfsuite.measure.latency import LocalSampler, Plan
from perfsuite.measure.stack import with_room

CALLS, DEPTHS = 100, range(200)
A_FEW = 20  # a first touch of memory here and there


def leaf():
    pass


def calls():
    for _ in range(CALLS):
        leaf()


def faults_of(function):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    function()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def at(depth, function):
    return function() if depth == 0 else at(depth - 1, function)


def most_faults(function):
    """At the worst of so many depths: a chunk of the stack holds fewer frames than that."""
    at(max(DEPTHS), function)
    return max(at(depth, lambda: faults_of(function)) for depth in DEPTHS)


@pytest.mark.skipif(sys.version_info[:2] > (3, 12), reason="releases of 3.13 and 3.14 keep one chunk")
def test_at_some_depth_every_call_maps_memory():
    assert most_faults(calls) >= CALLS


def test_with_room_no_call_does():
    assert most_faults(with_room(calls)) < A_FEW


def test_what_is_timed_has_room_at_any_depth():
    seen = []
    sampler = LocalSampler({"arm": lambda: seen.append(faults_of(calls))}, Plan(warmup_ns=1))
    for depth in DEPTHS:
        at(depth, lambda: sampler.chunk("arm", 2, 1, drop_first=True))
        at(depth, lambda: sampler.warm_up("arm"))
    assert len(seen) >= 2 * 3 * len(DEPTHS)
    assert max(seen) < A_FEW


def test_it_passes_on_arguments_results_and_errors():
    @with_room
    def divided(value, by=2):
        """Halves."""
        return value / by

    assert (divided(6), divided(6, by=3), divided.__doc__) == (3, 2, "Halves.")
    with pytest.raises(ZeroDivisionError):
        divided(1, by=0)
