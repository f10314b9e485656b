"""What a session records: of blocks that are simulated, and of facts that an executor hands in. No process starts."""

import math
from contextlib import closing

import msgspec
import pytest

from perfsuite.baseline.machine import this_machine
from perfsuite.baseline.schema import Entry, StoredTime
from perfsuite.baseline.store import Store
from perfsuite.case import Case
from perfsuite.errors import UsageError
from perfsuite.executors.jobs import Measured
from perfsuite.executors.this_process import Prepared, ThisProcess
from perfsuite.gate import drift
from perfsuite.measure.clock import SimulatedClock
from perfsuite.metric import Direction, Exact, Metric
from perfsuite.registry import Registries
from perfsuite.session.measurable import CallableCase
from perfsuite.session.record import not_recorded
from perfsuite.session.session import Session
from perfsuite.session.settings import Rerun, Settings
from perfsuite.spec import CANDIDATE, YARDSTICK, Context, Facts, Status
from perfsuite.testing import Simulated
from perfsuite.units import Unit

CASE = Case.of_callable("test_x.py::test_x")
RERUN = Rerun("pytest --perf-update x")
LEAKING = Rerun("pytest --perf-update x", leaks=("an earlier test left the default dtype at float64",))
CONTEXT = Context("2.13.0", "torch's own")
WIDTH = Metric("width", Unit.NUMBER, Direction.LOWER, Exact(lambda subject: 3))
RECORDING = {"update": True, "record_blocks": 4}
FRESH = 0.01  # the spread from process to process


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "baselines")


@pytest.fixture
def registries():
    made = Registries()
    made.metrics.register(WIDTH.name, WIDTH)
    return made


@pytest.fixture
def new_session(tmp_path, store, registries):
    """A session on executors that are handed in: one for a first look, and one for what is fresh."""

    def make(fresh, here=None, **settings):
        settings = Settings(**{"root": tmp_path, "storage": store.folder, "threads": 2, **settings})
        look = here or Simulated(fresh=False)
        return Session(settings, registries, executor=lambda: fresh, here=lambda prepare: look)

    return make


@pytest.fixture
def keep(store):
    """Have a time stored of a case, at a ratio of 1 to its yardstick; of this machine class unless told otherwise."""

    def accept(**differing):
        machine = msgspec.structs.replace(this_machine(2), **differing)
        time = StoredTime("abc", "interpreter-1", (-0.02, -0.01, 0.0, 0.01, 0.02), 1.0, 1.1, 1.2)
        store.accept(CASE.group, CASE.key, Entry(time={machine.id: time}), machine)

    return accept


def gate(session, rerun=RERUN, case=CASE, timed_ns=(), **limits):
    subject = CallableCase(case, lambda: None, timed_ns)
    return session.gate(subject, limits or {"latency": "20%"}, rerun)


def stored(store, case=CASE):
    return store.entry(case.group, case.key)


def statuses(judged):
    return {verdict.metric: verdict.status for verdict in judged.verdicts}


def fresh_blocks(ratio=1.0, **kwargs):
    return Simulated({CANDIDATE: ratio}, between=FRESH, **kwargs)


def test_nothing_is_stored_before_the_test_has_passed(new_session, store):
    """A gate only says what there is to accept: the test may fail after it."""
    session = new_session(fresh_blocks(), **RECORDING)
    judged = gate(session)
    assert statuses(judged) == {"latency": Status.RECORDED}
    assert stored(store) is None
    session.record(judged.acceptance)
    assert stored(store) == judged.acceptance.entry
    assert len(stored(store).time[this_machine(2).id].log_ratios) == 4


def test_a_session_that_judges_accepts_nothing(new_session, keep):
    keep()
    assert gate(new_session(fresh_blocks())).acceptance is None


def test_what_is_recorded_is_what_the_next_session_judges_against(new_session, store):
    session = new_session(fresh_blocks(2.0), **RECORDING)
    session.record(gate(session).acceptance)
    for ratio, status in ((2.0, Status.PASS), (4.0, Status.REGRESSED), (1.0, Status.IMPROVED)):
        look = Simulated({CANDIDATE: ratio}, fresh=False)
        assert statuses(gate(new_session(fresh_blocks(ratio), look))) == {"latency": status}


def test_bounds_are_judged_while_the_rest_is_recorded(new_session):
    """Simulated calls take 10 ms: a hundred in a second."""
    judged = gate(new_session(fresh_blocks(), **RECORDING), latency="20%", throughput=">=1000")
    assert statuses(judged) == {"latency": Status.RECORDED, "throughput": Status.REGRESSED}
    kept = gate(new_session(fresh_blocks(), **RECORDING), latency="20%", throughput=">=50")
    assert statuses(kept) == {"latency": Status.RECORDED, "throughput": Status.PASS}


def test_of_bounds_alone_no_time_is_recorded(new_session):
    fresh = fresh_blocks()
    judged = gate(new_session(fresh, **RECORDING), latency="<=1 s")
    assert statuses(judged) == {"latency": Status.PASS}
    assert (judged.acceptance.entry, judged.acceptance.machine) == (Entry(), None)
    assert fresh.asked == []


def growing(job):
    """Arms of a fresh process: each call of the candidate takes a millisecond longer than the one before."""
    clock, calls = SimulatedClock(), iter(range(10**6))
    arms = dict.fromkeys(job.arms, lambda: clock.advance_ns(10e6))
    arms[CANDIDATE] = lambda: clock.advance_ns(1e6 * (10 + next(calls)))
    return next(ThisProcess(lambda _: Prepared(arms), clock, fresh=True).submit([job]))


class Growing(Simulated):
    def submit(self, jobs):
        yield from map(growing, jobs)


def test_a_time_that_grows_with_the_calls_is_not_recorded(new_session):
    judged = gate(new_session(Growing(), **RECORDING))
    (verdict,) = judged.verdicts
    assert verdict.status is Status.NOT_MEASURED
    assert "times as long as the first ones of the same process" in verdict.sentence
    assert verdict.remedy == drift.REMEDY
    assert judged.acceptance is None


@pytest.mark.parametrize(
    ("differing", "status"), [(None, Status.NO_BASELINE), ({"cpu": "A Much Older CPU"}, Status.INCOMPARABLE)]
)
def test_what_cannot_be_judged_is_not_sampled(new_session, keep, differing, status):
    if differing:
        keep(**differing)
    fresh, here = fresh_blocks(), Simulated(fresh=False)
    judged = gate(new_session(fresh, here))
    assert statuses(judged) == {"latency": status}
    assert (fresh.asked, here.asked) == ([], [])
    assert "pytest --perf-update x" in judged.verdicts[0].remedy


def test_a_machine_class_is_recorded_beside_the_others(new_session, store, keep):
    keep(cpu="A Much Older CPU")
    session = new_session(fresh_blocks(), **RECORDING)
    session.record(gate(session).acceptance)
    assert len(stored(store).time) == 2


def test_another_call_of_a_test_is_another_entry(new_session, store):
    times = {CASE.key: 1.0, f"{CASE.key}#2": 2.0, f"{CASE.key}#sorted": 3.0}  # of the yardstick's
    for key, ratio in times.items():
        session = new_session(fresh_blocks(ratio), **RECORDING)
        session.record(gate(session, case=Case.parse(key)).acceptance)
    ratios = {key: entry.time[this_machine(2).id].log_ratios[0] for key, entry in store.entries()}
    assert ratios == pytest.approx({key: math.log(ratio) for key, ratio in times.items()}, abs=0.1)


def test_where_times_cannot_be_measured_the_rest_is_recorded(new_session):
    fresh = fresh_blocks()
    session = new_session(fresh, no_timing=("other tests run", "run it alone"), **RECORDING)
    judged = gate(session, latency="20%", width="0%")
    assert statuses(judged) == {"latency": Status.NOT_MEASURED, "width": Status.RECORDED}
    assert judged.verdicts[0].sentence.endswith("other tests run")
    assert judged.verdicts[0].remedy == "run it alone"
    entry = judged.acceptance.entry
    assert (entry.time, entry.exact.metrics["width"], fresh.asked) == ({}, 3, [])


def measured(**exact):
    return {CANDIDATE: Measured(Facts(exact), CONTEXT)}


def test_leaks_keep_the_first_look_away_and_are_noted_once(new_session, keep):
    keep()
    fresh, here = fresh_blocks(), Simulated(fresh=False)
    session = new_session(fresh, here)
    for _ in range(2):
        assert statuses(gate(session, LEAKING)) == {"latency": Status.PASS}
    assert (here.asked, len(fresh.done) >= 4) == ([], True)
    assert session.notes() == LEAKING.leaks


def test_beside_leaks_exact_numbers_come_from_a_fresh_process(new_session):
    """Here the width would be 3."""
    fresh = fresh_blocks(measured=measured(width=5))
    session = new_session(fresh, **RECORDING)
    judged = gate(session, LEAKING, width="0%")
    assert judged.verdicts[0].status is Status.RECORDED
    assert judged.acceptance.entry.exact.metrics == {"width": 5}
    assert judged.acceptance.entry.exact.torch == CONTEXT.torch
    assert [job.want for job in fresh.asked] == [{"facts", "scores", "relations"}]


def test_without_leaks_they_are_those_of_this_one(new_session):
    fresh = fresh_blocks(measured=measured(width=5))
    assert gate(new_session(fresh, **RECORDING), width="0%").acceptance.entry.exact.metrics["width"] == 3
    assert fresh.asked == []


def test_a_callable_has_no_original_to_be_related_to(new_session):
    fresh, here = fresh_blocks(), Simulated(fresh=False)
    with pytest.raises(UsageError, match="speedup relates a technique's model to its original") as caught:
        gate(new_session(fresh, here, **RECORDING), latency="20%", speedup=">=2")
    assert "gate a model with perf_case" in caught.value.remedy
    assert (fresh.asked, here.asked) == ([], [])


@pytest.mark.parametrize(("calls", "arms"), [(5, [(YARDSTICK,)]), (4, [(CANDIDATE, YARDSTICK)])])
def test_times_that_another_tool_has_taken_are_the_first_look(new_session, keep, calls, arms):
    """As long as there are enough: five show a scatter."""
    keep()
    here = Simulated(fresh=False)
    judged = gate(new_session(fresh_blocks(), here), timed_ns=(10e6,) * calls)
    assert statuses(judged) == {"latency": Status.PASS}
    assert [job.arms for job in here.asked] == arms


def test_they_are_not_what_is_recorded(new_session, store):
    judged = gate(new_session(fresh_blocks(), **RECORDING), timed_ns=(70e6,) * 9)
    (time,) = judged.acceptance.entry.time.values()
    assert time.p50_ms == pytest.approx(10, rel=0.1)


class Watched(Simulated):
    closed = 0

    def close(self):
        self.closed += 1


def test_the_executor_is_made_once_when_it_is_needed_and_closed(tmp_path, store):
    made = []

    def make():
        made.append(Watched())
        return made[-1]

    settings = Settings(tmp_path, store.folder, 2, **RECORDING)
    with closing(Session(settings, executor=make, here=lambda prepare: Simulated(fresh=False))) as session:
        gate(session, latency="<=1 s")
        assert made == []
        for call in (1, 2):
            gate(session, case=Case.of_callable(CASE.test, call))
    assert [executor.closed for executor in made] == [1]


class Unsteady(Simulated):
    """All yardsticks but one take longer in each process than in the one before."""

    steady = ""

    def submit(self, jobs):
        for job in jobs:
            others = {arm for arm in job.arms if arm not in (CANDIDATE, f"{YARDSTICK}:{self.steady}")}
            yield from Simulated({CANDIDATE: 3.0, **dict.fromkeys(others, 1.3**job.number)}).submit([job])


@pytest.mark.parametrize("steady", ["first", "second", "third"])
def test_what_is_recorded_is_relative_to_the_steadiest_yardstick(new_session, monkeypatch, steady):
    monkeypatch.setattr(CallableCase, "yardsticks", lambda self: ("first", "second", "third"))
    executor = Unsteady()
    executor.steady = steady
    (time,) = gate(new_session(executor, **RECORDING)).acceptance.entry.time.values()
    assert time.yardstick == steady
    assert time.log_ratios == pytest.approx([math.log(3.0)] * 4, abs=0.02)


def test_a_test_that_fails_after_its_gate_says_that_nothing_was_recorded(new_session):
    judged = gate(new_session(fresh_blocks(), **RECORDING), latency="20%", throughput=">=50")
    latency, throughput = not_recorded(judged).verdicts
    assert latency.status is Status.NOT_MEASURED
    assert latency.sentence == "latency was not recorded, because its test did not pass"
    assert latency.remedy == "mend the test, then record it again"
    assert throughput == judged.verdicts[1]
