"""The session decides what to measure: on simulated time, with executors that are handed in."""

import math
import sys
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from perfsuite.baseline.machine import this_machine
from perfsuite.baseline.schema import Entry, StoredTime
from perfsuite.baseline.store import Store
from perfsuite.case import Case
from perfsuite.errors import EngineError
from perfsuite.executors.failures import WorkerGoneError
from perfsuite.executors.jobs import Job
from perfsuite.executors.local import LocalProcesses
from perfsuite.executors.messages import Boot
from perfsuite.executors.this_process import Prepared, ThisProcess
from perfsuite.executors.workers import Launch
from perfsuite.revisions.commits import revision
from perfsuite.session.measurable import CallableCase
from perfsuite.session.session import Session
from perfsuite.session.settings import Rerun, Settings
from perfsuite.spec import Status
from perfsuite.stats import sequential
from perfsuite.testing.simulated import Simulated

CASE = Case.of_callable("test_x.py::test_x")
RERUN = Rerun("pytest --perf-update x")


@pytest.fixture
def new_session(tmp_path):
    """A session with a baseline of ratio 1, whose executors are handed in: a first look and fresh processes."""
    store = Store(tmp_path / "baselines")
    machine = this_machine(2)
    time = StoredTime("abc", "interpreter-1", (-0.02, -0.01, 0.0, 0.01, 0.02), 1.0, 1.1, 1.2)
    store.accept(CASE.group, CASE.key, Entry(time={machine.id: time}), machine)

    def make(here, fresh=None, **settings):
        settings = Settings(**{"root": tmp_path, "storage": store.folder, "threads": 2, "max_blocks": 6, **settings})
        return Session(settings, executor=fresh and (lambda: fresh), here=lambda prepare: here)

    return make


def first_look(ratio):
    return Simulated({"candidate": ratio}, fresh=False)


def fresh_blocks(ratio, **kwargs):
    return Simulated({"candidate": ratio}, between=0.01, **kwargs)


def gate(session, **limits):
    return session.gate(CallableCase(CASE, lambda: None), limits or {"latency": "20%"}, RERUN)


def run(new_session, here, fresh, **settings):
    return gate(new_session(here, fresh, **settings)).verdicts[0]


def test_a_good_first_look_ends_it(new_session):
    here, fresh = first_look(1.0), fresh_blocks(1.0)
    assert run(new_session, here, fresh).status is Status.PASS
    assert (len(here.done), fresh.asked) == (1, [])


def test_blocks_for_a_verdict_may_end_early_and_those_for_a_baseline_not(new_session):
    judging, recording = fresh_blocks(1.0), fresh_blocks(1.0)
    session = new_session(first_look(2.0), judging)
    gate(session)
    gate(new_session(first_look(2.0), recording, update=True))
    plans = [{job.plan for job in fresh.asked} for fresh in (judging, recording)]
    assert [plan.precision for (plan,) in plans] == [pytest.approx(math.log(1.2) / 3), 0.0]
    assert {plan.budget_ns for (plan,) in plans} == {round(1e9 * session.settings.block_s)}
    asked = len(judging.asked), len(recording.asked)
    assert asked == (session.settings.max_blocks, session.settings.record_blocks)


def test_a_bad_first_look_never_convicts(new_session):
    fresh = fresh_blocks(1.0)
    verdict = run(new_session, first_look(2.0), fresh)
    assert verdict.status is Status.PASS
    assert len(fresh.done) >= 2
    assert "fresh block(s)" in verdict.sentence


def test_a_regression_is_confirmed_in_fresh_processes_and_rests_on_them(new_session):
    fresh = fresh_blocks(1.6)
    verdict = run(new_session, first_look(5.0), fresh)
    assert verdict.status is Status.REGRESSED
    assert len(fresh.done) == 2
    assert verdict.change == pytest.approx(1.6, rel=0.1)


def test_what_more_blocks_would_hardly_tell_is_given_up(new_session, monkeypatch):
    fresh = fresh_blocks(1.2)
    verdict = run(new_session, first_look(1.2), fresh)
    assert (verdict.status, verdict.futile) == (Status.INCONCLUSIVE, True)
    assert 3 <= len(fresh.done) < 6
    assert verdict.sentence.endswith("would have been seen, and more blocks would hardly tell")
    monkeypatch.setattr(sequential, "_MIN_PREDICTIVE_POWER", 0.0)
    fresh = fresh_blocks(1.2)
    verdict = run(new_session, first_look(1.2), fresh)
    assert (verdict.status, verdict.futile) == (Status.INCONCLUSIVE, False)
    assert len(fresh.done) == 6


def test_the_budget_ends_the_confirmation(new_session):
    fresh = fresh_blocks(1.2)
    run(new_session, first_look(1.2), fresh, budget_s=0)
    assert len(fresh.done) == 2


def test_the_baselines_yardstick_is_used(new_session, monkeypatch):
    monkeypatch.setattr(CallableCase, "yardsticks", lambda self: ("a-newer-one",))
    here = first_look(1.0)
    gate(new_session(here))
    assert [job.yardstick for job in here.asked] == ["interpreter-1"]


def test_without_fresh_processes_what_they_should_confirm_is_an_error(new_session):
    with pytest.raises(EngineError, match="cannot start fresh processes"):
        gate(new_session(first_look(5.0)))


@given(seed=st.integers(0, 1000), lost=st.sets(st.integers(1, 6), max_size=2), ratio=st.sampled_from([1.0, 1.2, 1.6]))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_in_any_order_the_same_jobs_give_the_same_evidence(new_session, seed, lost, ratio):
    here = first_look(2.0)
    in_order, disordered = fresh_blocks(ratio), fresh_blocks(ratio, shuffled=seed, lost=lost)
    one, other = (gate(new_session(here, fresh)) for fresh in (disordered, in_order))
    assert (one.verdicts, one.samples_ms) == (other.verdicts, other.samples_ms)


def test_times_of_another_class_of_machine_are_refused(new_session):
    """The baseline's are of this one's."""
    with pytest.raises(EngineError, match=r"was measured on elsewhere, and its verdict on .*never mixed"):
        run(new_session, first_look(2.0), fresh_blocks(1.0, machines={2: "elsewhere"}))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import os; os.kill(os.getpid(), 9)", "was killed by signal 9"),
        (
            "print('no more memory'); raise SystemExit(3)",
            r"ended with status 3 before it measured(.|\n)*no more memory",
        ),
        ("import time; time.sleep(60)", "did not answer in 0.5 s"),
        ("pass", "ended with status 0 before it measured"),
    ],
)
def test_a_worker_that_dies_or_hangs_is_said_with_its_last_words(code, message):
    timeout_s = 0.5 if "sleep" in code else 60
    launch = Launch((sys.executable, "-c", code), Boot((-1, -1), {}, "/"), timeout_s=timeout_s)
    job = RERUN.job(CASE, Settings(root=Path(), storage=Path("nowhere"), threads=2))
    with closing(LocalProcesses(launch)) as executor, pytest.raises(WorkerGoneError, match=message):
        next(executor.submit([replace(job, item=CASE.key)]))


def test_threads_are_set_while_sampling_and_restored():
    import torch

    before = torch.get_num_threads()
    seen = set()
    arms = {"candidate": lambda: seen.add(torch.get_num_threads())}
    next(ThisProcess(lambda job: Prepared(arms)).submit([Job(case=CASE, threads=1)]))
    assert seen == {1}
    assert torch.get_num_threads() == before


def test_the_revision_says_when_the_tree_has_changes(tmp_path):
    import subprocess

    def git(*arguments):
        identity = ["-c", "user.name=t", "-c", "user.email=t@t"]
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)

    assert revision(tmp_path) == "unknown"
    git("init")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-m", "one")
    revision.cache_clear()
    clean = revision(tmp_path)
    assert len(clean) == 12
    (tmp_path / "a").write_text("2")
    revision.cache_clear()
    assert revision(tmp_path) == f"{clean}+changes"
