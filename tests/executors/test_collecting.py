"""What comes back is checked and put in order, whatever the executor does to it."""

import pickle
from contextlib import closing

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfsuite.case import Case
from perfsuite.errors import EngineError
from perfsuite.executors.collecting import collected
from perfsuite.executors.failures import RevisionFailedError, WorkerGoneError
from perfsuite.executors.jobs import Job
from perfsuite.testing import Simulated

JOBS = [Job(case=Case.of_callable("test_x.py::test_x"), want=frozenset(), number=number) for number in range(1, 6)]


@given(seed=st.integers(0, 10_000), lost=st.sets(st.integers(1, 5)))
def test_results_come_in_the_order_of_their_jobs(seed, lost):
    found = list(collected(Simulated(shuffled=seed, lost=lost), JOBS))
    assert [result.job for result in found] == [job.id for job in JOBS]


@given(seed=st.integers(0, 10_000), lost=st.sets(st.integers(1, 5), min_size=1))
def test_only_what_is_lost_is_asked_for_again(seed, lost):
    executor = Simulated(shuffled=seed, lost=lost)
    list(collected(executor, JOBS))
    assert sorted(job.number for job in executor.done) == [1, 2, 3, 4, 5]
    assert sorted(job.number for job in executor.asked[5:]) == sorted(lost)


class LosesAlways:
    def submit(self, jobs):
        yield from Simulated().submit([job for job in jobs if job.number != 2])


def test_what_is_lost_twice_is_one_error_and_what_came_before_it_was_given():
    given = []
    with pytest.raises(EngineError, match=rf"has lost {JOBS[1].id[:20]}.* twice".replace("(", r"\(")):
        given += collected(LosesAlways(), JOBS)
    with closing(collected(LosesAlways(), JOBS)) as results:
        assert next(results).job == JOBS[0].id


@pytest.mark.parametrize(
    ("executor", "says"),
    [
        (Simulated(twice={3}), "the executor answered .* twice"),
        (Simulated(stray={3}), "answered a job of somebody else's, which nobody asked for"),
        (Simulated(machines={4: "another"}), "was measured on another, and its verdict on .*never mixed"),
    ],
)
def test_an_answer_that_is_none_is_one_error(executor, says):
    with pytest.raises(EngineError, match=says):
        list(collected(executor, JOBS))


def test_a_machine_of_another_class_than_asked_for_is_refused():
    with pytest.raises(EngineError, match="never mixed"):
        list(collected(Simulated(), JOBS, machine="that of the baseline"))


def test_closing_it_cancels_what_is_left():
    executor = Simulated()
    with closing(collected(executor, JOBS)) as results:
        next(results)
    assert len(executor.done) == 1


def test_jobs_and_results_go_over_a_wire_and_keep_their_identity():
    job = Job(case=Case(model="m", of={"x": "1"}), parameters={"a": "1"}, want=frozenset({"facts", "block"}), seed=3)
    (result,) = Simulated().submit([job])
    for value in (job, result):
        assert msgspec.json.decode(msgspec.json.encode(value), type=type(value)) == value
        assert pickle.loads(pickle.dumps(value)) == value  # noqa: S301  # as process pools do it
    assert msgspec.json.decode(msgspec.json.encode(job), type=Job).id == job.id == result.job
    assert msgspec.structs.replace(job, number=2).id != job.id


@pytest.mark.parametrize(
    "error", [RevisionFailedError("a", "b", "base", "c"), WorkerGoneError("a", "b", "c", hung=True)]
)
def test_failures_go_over_a_wire_with_all_that_is_known(error):
    sent = pickle.loads(pickle.dumps(error))  # noqa: S301  # as process pools do it
    assert (type(sent), vars(sent)) == (type(error), vars(error))
