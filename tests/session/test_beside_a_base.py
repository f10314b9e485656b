"""What a session asks for beside a base revision, and what it makes of the answers: a repository, and no processes."""

import re
from contextlib import ExitStack

import pytest

from perfsuite.baseline.machine import this_machine
from perfsuite.baseline.schema import Entry, StoredExact, StoredTime
from perfsuite.baseline.store import Store
from perfsuite.case import Case
from perfsuite.errors import EngineError
from perfsuite.executors.failures import RevisionFailedError, UnusedBaseError, WorkerGoneError
from perfsuite.executors.fresh_processes import SIDE_BY_SIDE_PLAN
from perfsuite.executors.jobs import Measured
from perfsuite.executors.processes_in_turns import IN_TURNS_PLAN
from perfsuite.metric import Direction, Exact, Metric, PerExample, Scores
from perfsuite.registry import Registries
from perfsuite.session.measurable import CallableCase
from perfsuite.session.session import Session
from perfsuite.session.settings import ACCEPTED, Rerun, Settings
from perfsuite.spec import BASE, CANDIDATE, Context, Facts, Status
from perfsuite.testing import Simulated
from perfsuite.units import Unit
from tests.revisions.repositories import Repo

TEST = "test_it.py::test_it"
UNSOUND = "the project replaces textwrap.indent"


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    made = Repo.new(tmp_path_factory.mktemp("beside") / "project")
    made.commit("base", test_it_py="def test_it(perf): ...")
    return made


@pytest.fixture
def beside(repository):
    """Judges a test beside the commit, with an executor that is handed in."""
    with ExitStack() as stack:

        def make(executor, registries=None, **settings):
            folder = repository.folder
            given = {"root": folder, "storage": folder / "none", "threads": 2, "base": "main", "max_blocks": 6}
            session = Session(Settings(**given | settings), registries, executor=lambda: executor)
            stack.callback(session.close)
            return session

        yield make


def judge(session, test=TEST, latency="20%"):
    subject = CallableCase(Case.of_callable(test), lambda: None)
    return session.gate(subject, {"latency": latency}, Rerun("pytest --perf-update", test)).verdicts[0]


def slower(ratio, **kwargs):
    return Simulated({CANDIDATE: ratio}, **kwargs)


def test_equal_code_passes_as_soon_as_that_is_clear(beside):
    executor = slower(1.0)
    assert judge(beside(executor)).status is Status.PASS
    assert len(executor.asked) == 6
    assert len(executor.done) < 6
    assert [job.examined for job in executor.asked] == [False, *[True] * 5]


def test_before_a_test_fails_the_base_is_measured_beside_itself(beside):
    executor = slower(1.6)
    verdict = judge(beside(executor, profile=True))
    assert (verdict.status, verdict.change) == (Status.REGRESSED, pytest.approx(1.6, rel=0.05))
    *blocks, one, two, profile = executor.done
    assert {tuple(job.revisions) for job in blocks} == {(CANDIDATE, BASE)}
    assert [tuple(job.revisions) for job in (one, two)] == [("control", BASE)] * 2
    assert len(set(one.revisions.values())) == 1
    assert (profile.want, tuple(profile.revisions)) == (frozenset({"profiles"}), (CANDIDATE, BASE))


def test_a_session_that_tells_a_base_from_itself_convicts_nobody(beside):
    """What one process has, and its twin has not, looks like a regression in the control, too."""
    noisy = Simulated({CANDIDATE: 1.6}, between=0.5)
    assert judge(beside(noisy)).status is not Status.REGRESSED


def test_what_more_blocks_would_hardly_tell_is_given_up(beside):
    executor = slower(1.2)
    verdict = judge(beside(executor, max_blocks=8))
    assert (verdict.status, verdict.futile) == (Status.INCONCLUSIVE, True)
    assert 3 <= len(executor.done) < 8


def test_the_budget_ends_it(beside):
    executor = slower(1.2)
    judge(beside(executor, budget_s=0))
    assert len(executor.done) == 1


def test_what_must_not_share_a_process_gets_one_each_and_two_cases_tell_of_the_package(beside):
    executor = slower(1.0, unsound=UNSOUND)
    session, tried = beside(executor), []
    for number in range(3):
        assert judge(session, f"{TEST}[{number}]").status is Status.PASS
        tried.append({job.apart for job in executor.done})
        executor.done.clear()
    assert tried == [{False, True}, {False, True}, {True}]
    assert f"measured in two processes for each block, because {UNSOUND}" in session.notes()


def test_in_one_process_alone_it_is_refused_where_that_is_not_sound(beside):
    with pytest.raises(EngineError, match=UNSOUND):
        judge(beside(slower(1.0, unsound=UNSOUND), isolation="inprocess"))


def test_in_two_processes_it_is_not_tried_in_one(beside):
    executor = slower(1.0, unsound=UNSOUND)
    assert judge(beside(executor, isolation="processes")).status is Status.PASS
    assert {job.apart for job in executor.asked} == {True}


@pytest.mark.parametrize(("isolation", "start"), [("inprocess", SIDE_BY_SIDE_PLAN), ("processes", IN_TURNS_PLAN)])
def test_each_way_to_measure_both_revisions_has_a_plan_of_its_own(beside, isolation, start):
    executor = slower(1.0)
    judge(beside(executor, isolation=isolation))
    plans = {(job.plan.warmup_ns, job.plan.chunk_ns, job.plan.min_calls) for job in executor.asked}
    assert plans == {(start.warmup_ns, start.chunk_ns, start.min_calls)}


@pytest.mark.parametrize(
    ("isolation", "latency", "layouts"),
    [("inprocess", "1%", 2), ("inprocess", "2%", 1), ("inprocess", "0.01 ms", 1), ("processes", "1%", 1)],
)
def test_a_tolerance_below_what_layouts_differ_by_has_blocks_of_two(beside, isolation, latency, layouts):
    executor = slower(1.0)
    judge(beside(executor, isolation=isolation), latency=latency)
    whole = SIDE_BY_SIDE_PLAN if isolation == "inprocess" else IN_TURNS_PLAN
    plans = {(job.plan.layouts, job.plan.rounds, job.plan.budget_ns) for job in executor.asked}
    assert plans == {(layouts, whole.rounds // layouts, whole.budget_ns // layouts)}


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (RevisionFailedError("it failed", "", BASE, "ZeroDivisionError"), "it fails on main .*ZeroDivisionError"),
        (RevisionFailedError("it failed", "", BASE, "it was not collected"), "it is new since main"),
        (UnusedBaseError("no module comes from the base", ""), "no module comes from the base"),
    ],
)
def test_what_the_base_cannot_do_is_not_measured_and_says_why(beside, error, says):
    verdict = judge(beside(Simulated(failing={1: error}), isolation="processes"))
    assert verdict.status is Status.NOT_MEASURED
    assert re.search(says, verdict.sentence)


@pytest.mark.parametrize(
    "error",
    [
        RevisionFailedError("the candidate failed", "", CANDIDATE, "it died"),
        WorkerGoneError("the candidate failed", "", "did not answer", hung=True),
    ],
)
def test_what_the_candidate_cannot_do_is_an_error(beside, error):
    with pytest.raises(EngineError, match="the candidate failed"):
        judge(beside(Simulated(failing={1: error})))


def test_what_hangs_is_not_tried_again(beside):
    executor = Simulated(failing={1: WorkerGoneError("it hung", "", "did not answer", hung=True)})
    with pytest.raises(WorkerGoneError):
        judge(beside(executor))
    assert {job.apart for job in executor.asked} == {False}


@pytest.mark.parametrize("faults", [{"machines": {2: "elsewhere"}}, {"twice": {1}}, {"stray": {1}}])
def test_answers_that_cannot_be_trusted_are_errors(beside, faults):
    with pytest.raises(EngineError, match=r"never mixed|twice|nobody asked for"):
        judge(beside(slower(1.2, **faults)))


def measured(width, error):
    """What a fresh process of a revision finds."""
    scores = Scores("task", "examples", (error,) * 9 + (0.0,))
    return Measured(Facts({"width": width}, per_example={"error": scores}), CONTEXT)


CONTEXT = Context("2.13.0", "torch's own")


@pytest.fixture
def registries():
    """Metrics that find nothing but zeros in this process."""
    made = Registries()
    zeros = Scores("task", "examples", (0.0,) * 10)
    for metric in (
        Metric("width", Unit.NUMBER, Direction.LOWER, Exact(lambda subject: 0)),
        Metric("error", Unit.NUMBER, Direction.LOWER, PerExample(lambda subject: zeros)),
    ):
        made.metrics.register(metric.name, metric)
    return made


@pytest.mark.parametrize(
    ("here", "base", "status"),
    [((3, 1.0), (3, 1.0), Status.PASS), ((3, 1.0), (5, 2.0), Status.IMPROVED), ((5, 2.0), (3, 1.0), Status.REGRESSED)],
)
def test_what_has_no_noise_is_that_of_fresh_processes_judged_against_the_base(
    beside, registries, tmp_path, here, base, status
):
    """Not what this process finds, where earlier tests may have changed it, nor what is stored: a width of 100."""
    case = Case.of_callable(TEST)
    exact = StoredExact.of("abc", CONTEXT.torch, CONTEXT.kernels, {"width": 100}, {})
    Store(tmp_path).accept(case.group, case.key, Entry(exact))
    executor = Simulated(measured={CANDIDATE: measured(*here), BASE: measured(*base)})
    session = beside(executor, registries, storage=tmp_path)
    subject = CallableCase(case, lambda: None)
    verdicts = session.gate(subject, {"width": "0%", "error": "5%"}, Rerun("pytest", TEST)).verdicts
    assert [verdict.status for verdict in verdicts] == [status] * 2
    assert (verdicts[0].measured, verdicts[0].expected) == (here[0], base[0])
    assert [(job.want, set(job.revisions)) for job in executor.asked] == [({"facts", "scores"}, {CANDIDATE, BASE})]


def test_a_bound_is_judged_by_itself_beside_a_tolerance(beside, registries):
    executor = Simulated(measured={CANDIDATE: measured(3, 1.0), BASE: measured(3, 1.0)})
    subject = CallableCase(Case.of_callable(TEST), lambda: None)
    limits = {"error": "5%", "width": "<=2"}
    error, width = beside(executor, registries).gate(subject, limits, Rerun("pytest", TEST)).verdicts
    assert (error.status, width.status) == (Status.PASS, Status.REGRESSED)
    assert "main (" not in width.sentence


def test_an_accepted_base_is_the_commit_of_the_baseline_of_each_test(beside, tmp_path):
    """Which catches what has drifted since in small steps; where there is no such commit it says why."""
    repo, store = Repo.new(tmp_path / "project"), Store(tmp_path / "baselines")
    accepted = repo.commit("accepted", test_it_py="def test_it(perf): ...")
    repo.commit("a small step")
    for name, commit in (("test_it.py::test_it", accepted[:12]), ("test_it.py::test_dirty", "abc+changes")):
        time = StoredTime(commit, "interpreter-1", (0.0, 0.0), 1.0)
        store.accept("test_it", name, Entry(time={this_machine(2).id: time}), this_machine(2))
    executor = slower(1.6)
    session = beside(executor, root=repo.folder, storage=store.folder, base=ACCEPTED)
    verdict = judge(session)
    assert (verdict.status, accepted[:12] in verdict.sentence) == (Status.REGRESSED, True)
    bases = {job.revisions[BASE] for job in executor.done}
    assert [Repo(folder).git("rev-parse", "HEAD") for folder in bases] == [accepted]
    for name, why in (("test_dirty", "with uncommitted changes"), ("test_new", "no baseline is stored for it")):
        verdict = judge(session, f"test_it.py::{name}")
        assert (verdict.status, why in verdict.sentence) == (Status.NOT_MEASURED, True)


@pytest.mark.parametrize(
    ("runtime", "isolation", "apart"),
    [("eager", "auto", False), ("onnxruntime", "auto", True), ("onnxruntime", "inprocess", False)],
)
def test_revisions_on_another_runtime_have_a_process_each(beside, runtime, isolation, apart):
    """Its threads would take cores from those of the other revision."""
    executor = slower(1.0)
    subject = CallableCase(Case(model="m", runtime=runtime), lambda: None)
    session = beside(executor, isolation=isolation)
    session.gate(subject, {"latency": "20%"}, Rerun("pytest --perf-update", TEST))
    assert {job.apart for job in executor.asked} == {apart}
