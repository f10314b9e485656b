"""The session decides what to measure: on simulated time, with block sources that are handed in."""

import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from perfsuite.baseline.machine import this_machine
from perfsuite.baseline.schema import Entry, StoredTime
from perfsuite.baseline.store import Store
from perfsuite.engine.messages import CANDIDATE_VIEW, Boot, Run
from perfsuite.engine.sources import InPlace, Served
from perfsuite.engine.workers import Launch, Workers
from perfsuite.errors import EngineError
from perfsuite.gate.baseline import Baseline, BaseRevision, Budget
from perfsuite.session import timed as timed_module
from perfsuite.session.base import BaseRun
from perfsuite.session.measurable import CallableCase
from perfsuite.session.revision import revision
from perfsuite.session.session import Session
from perfsuite.session.settings import Rerun, Settings
from perfsuite.spec import Case, Evidence, Status
from perfsuite.stats import sequential
from tests.gate import steady
from tests.gate.evidence import CONTEXT, blocks, limit

CASE = Case.of_callable("test_x.py::test_x")
RERUN = Rerun("pytest --perf-update x")


class Scripted:
    """Stands where processes would: hands out blocks and counts how often it was asked."""

    def __init__(self, found):
        self.found = iter(found)
        self.asked = 0

    def block(self, number):
        self.asked += 1
        return next(self.found)


@pytest.fixture
def session(tmp_path):
    store = Store(tmp_path / "baselines")
    machine = this_machine(2)
    time = StoredTime("abc", "interpreter-1", (-0.02, -0.01, 0.0, 0.01, 0.02), 1.0, 1.1, 1.2)
    store.accept(CASE.group, CASE.key, Entry(time={machine.id: time}), machine)
    return Session(Settings(root=tmp_path, storage=store.folder, threads=2, max_blocks=6))


def run(session, monkeypatch, in_place, fresh, limits=None):
    sources = Scripted(in_place), Scripted(fresh)
    monkeypatch.setattr(timed_module.TimedRun, "_in_place", lambda self, names: sources[0])
    monkeypatch.setattr(timed_module.TimedRun, "_fresh", lambda self, arms, plan, most: sources[1])
    judged = session.gate(CallableCase(CASE, lambda: None), limits or {"latency": "20%"}, RERUN)
    return judged.verdicts[0], sources[0].asked, sources[1].asked


def test_a_good_first_look_ends_it(session, monkeypatch):
    verdict, in_place, fresh = run(session, monkeypatch, blocks(1, ratio=1.0, between=0.0, fresh=False), [])
    assert (verdict.status, in_place, fresh) == (Status.PASS, 1, 0)


def test_blocks_for_a_verdict_may_end_early_and_those_for_a_baseline_not(session, monkeypatch):
    plans, wanted = [], []

    def fresh(self, arms, plan, most):
        plans.append(plan)
        wanted.append(most)
        return Scripted(block.renamed("yardstick", arms[-1]) for block in blocks(6, ratio=1.0))

    monkeypatch.setattr(timed_module.TimedRun, "_in_place", lambda self, names: Scripted(blocks(1, ratio=2.0)))
    monkeypatch.setattr(timed_module.TimedRun, "_fresh", fresh)
    monkeypatch.setattr(CallableCase, "yardsticks", lambda self: ("interpreter-1",))
    session.gate(CallableCase(CASE, lambda: None), {"latency": "20%"}, RERUN)
    session.settings = replace(session.settings, update=True)
    session.gate(CallableCase(CASE, lambda: None), {"latency": "20%"}, RERUN)
    assert [plan.precision for plan in plans] == [pytest.approx(math.log(1.2) / 6), 0.0]
    assert {plan.budget_ns for plan in plans} == {round(1e9 * session.settings.block_s)}
    assert wanted == [session.settings.max_blocks, session.settings.record_blocks]


def test_a_bad_first_look_never_convicts(session, monkeypatch):
    looks_bad = blocks(1, ratio=2.0, between=0.0, fresh=False)
    verdict, _, fresh = run(session, monkeypatch, looks_bad, blocks(6, ratio=1.0))
    assert verdict.status is Status.PASS
    assert fresh >= 2
    assert "fresh block(s)" in verdict.sentence


def test_a_regression_is_confirmed_in_fresh_processes_and_rests_on_them(session, monkeypatch):
    verdict, _, fresh = run(session, monkeypatch, blocks(1, ratio=5.0, fresh=False), blocks(6, ratio=1.6))
    assert verdict.status is Status.REGRESSED
    assert fresh == 2
    assert verdict.change == pytest.approx(1.6, rel=0.1)


def test_what_more_blocks_would_hardly_tell_is_given_up(session, monkeypatch):
    at_the_limit = blocks(1, ratio=1.2, fresh=False), blocks(6, ratio=1.2)
    verdict, _, fresh = run(session, monkeypatch, *at_the_limit)
    assert (verdict.status, verdict.futile) == (Status.INCONCLUSIVE, True)
    assert 3 <= fresh < 6
    assert verdict.sentence.endswith("would have been seen, and more blocks would hardly tell")
    monkeypatch.setattr(sequential, "_LITTLE_HOPE", 0.0)
    verdict, _, fresh = run(session, monkeypatch, *at_the_limit)
    assert (verdict.status, verdict.futile) == (Status.INCONCLUSIVE, False)
    assert fresh == 6


def test_beside_a_base_it_is_given_up_as_well():
    baseline = Baseline(None, this_machine(2), base=BaseRevision("main"))
    beside = BaseRun(None, None, (limit("latency", "20%"),), baseline, Budget(), RERUN, None)

    def settled(number):
        evidence = Evidence(CASE, CONTEXT, {}, beside_base=steady.beside(*[1.2] * number))
        return beside._is_settled(evidence)

    assert [settled(number) for number in (1, 2)] == [False, False]
    assert any(settled(number) for number in (3, 4, 5))


def test_the_budget_ends_the_confirmation(session, monkeypatch):
    session.settings = replace(session.settings, budget_s=0)
    _, _, fresh = run(session, monkeypatch, blocks(1, ratio=1.2, fresh=False), blocks(6, ratio=1.2))
    assert fresh == 2


def test_the_baselines_yardstick_is_used():
    machine = this_machine(2)
    stored = Entry(time={machine.id: StoredTime("c", "an-older-one", (0.0,), 1.0, 1.0, 1.0)})
    settings = Settings(root=Path(), storage=Path("nowhere"), threads=2)
    subject = CallableCase(CASE, lambda: None)
    timed = timed_module.TimedRun(
        settings, subject, (limit("latency", "5%"),), Baseline(stored, machine), Budget(), RERUN, list
    )
    assert timed._yardstick() == "an-older-one"


def test_without_fresh_processes_what_they_should_confirm_is_an_error(session, monkeypatch):
    monkeypatch.setattr(
        timed_module.TimedRun, "_in_place", lambda self, names: Scripted(blocks(1, ratio=5.0, fresh=False))
    )
    with pytest.raises(EngineError, match="cannot start fresh processes"):
        session.gate(CallableCase(CASE, lambda: None), {"latency": "20%"}, RERUN)


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
    launch = Launch(lambda folder: [sys.executable, "-c", code], Boot((-1, -1), {}, "/"), timeout_s=timeout_s)
    request = Run("test_x.py::test_x", "", CASE.key, ("candidate",), "interpreter-1", 0, 2)
    with Workers(launch) as workers, pytest.raises(EngineError, match=message):
        Served(workers, "fresh", {CANDIDATE_VIEW: None}, request).block(1)


def test_threads_are_set_while_sampling_and_restored():
    import torch

    before = torch.get_num_threads()
    seen = set()
    InPlace({"candidate": lambda: seen.add(torch.get_num_threads())}, threads=1).block(0)
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
