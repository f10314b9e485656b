import gc

from perfsuite.phases import BACKWARD, FORWARD, PhaseClock, heard, phase


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_a_phase_clock_counts_its_phase_alone():
    clock = Clock()
    forward = PhaseClock(FORWARD, clock)
    for seconds, name in ((2.0, FORWARD), (5.0, BACKWARD), (1.0, FORWARD)):
        with phase(name):
            clock.now += seconds
        clock.now += 100
    assert forward.read() == 3.0


def test_an_error_ends_a_phase():
    clock = Clock()
    forward = PhaseClock(FORWARD, clock)
    try:
        with phase(FORWARD):
            clock.now += 1
            raise ValueError
    except ValueError:
        clock.now += 10
    assert forward.read() == 1.0


def test_who_listens_is_told_in_order_for_as_long_as_it_listens():
    told = []
    listener = type("Listener", (), {"told": lambda self, name: told.append(name)})()
    with heard(listener), phase(FORWARD):
        pass
    with phase(BACKWARD):
        pass
    assert told == [FORWARD, ""]


def test_a_clock_that_nobody_reads_hears_nothing_more():
    clock = Clock()
    kept, dropped = PhaseClock(FORWARD, clock), PhaseClock(FORWARD, clock)
    reads = []
    dropped.told = reads.append
    del dropped
    gc.collect()
    with phase(FORWARD):
        clock.now += 1
    assert (kept.read(), reads) == (1.0, [])
