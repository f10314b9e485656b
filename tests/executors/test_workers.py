"""Real worker processes of a small project, whose tests misbehave in every way."""

import statistics

import psutil
import pytest

from perfsuite.executors.failures import RevisionFailedError, UnusedBaseError, WorkerGoneError
from perfsuite.executors.workers import Workers
from perfsuite.spec import BASE, CANDIDATE
from tests.executors.misbehaving import CONFTEST, ITEMS, MYPKG
from tests.executors.projects import ALONE, Project, ratio


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    made = Project(tmp_path_factory.mktemp("workers"), ITEMS, {"mypkg.py": MYPKG})
    (made.top / "conftest.py").write_text(CONFTEST)
    return made


@pytest.fixture(scope="module")
def workers(project):
    """The workers of one session, which all these tests use as items of a session would."""
    with Workers(project.launch()) as made:
        yield made


@pytest.fixture
def log(tmp_path, monkeypatch):
    file = tmp_path / "log"
    file.touch()
    monkeypatch.setenv("RESOURCE_LOG", str(file))
    return file


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("test_dies_in_a_fixture", WorkerGoneError, "ended with status 3"),
        ("test_raises", RevisionFailedError, "not today"),
        ("test_never_measures", RevisionFailedError, "it ended without measuring"),
        ("test_is_skipped", RevisionFailedError, "it was skipped: Skipped: no reason"),
        ("test_nowhere", RevisionFailedError, "test_nowhere was not collected"),
        ("test_timed[exits]", WorkerGoneError, "ended with status 7"),
        ("test_timed[killed]", WorkerGoneError, r"was killed by signal 9 \(often: the system was out of memory\)"),
        ("test_timed[system exit]", RevisionFailedError, "in a fresh process, .* call 2 raised SystemExit: 5"),
        ("test_timed[skips]", RevisionFailedError, "(?s)a timed call of .* raised .*in the middle"),
        ("test_timed[fails]", RevisionFailedError, "(?s)a timed call of .* raised .*in the middle"),
        ("test_timed[raises]", RevisionFailedError, "it cannot be repeated: call 2 raised ZeroDivisionError"),
        ("test_timed[forks]", WorkerGoneError, "was killed by signal 9"),
    ],
)
def test_a_failure_is_told_and_the_next_item_is_measured(project, workers, name, error, message):
    with pytest.raises(error, match=message):
        project.alone(workers, name).block(1)
    assert project.alone(workers, "test_good").block(1).of(CANDIDATE)


def test_a_call_that_hangs_ends_with_its_time(project):
    with Workers(project.launch()) as mine:
        project.alone(mine, "test_good").block(1)
        hasty = mine.worker(ALONE, 1, {})
        hasty._launch = project.launch(timeout_s=1)  # it has started: a loaded machine needs longer for that
        with pytest.raises(WorkerGoneError, match=r"(?s)did not answer in 1 s.*--perf-timeout") as caught:
            project.alone(mine, "test_timed[hangs]").block(1)
        assert caught.value.hung
        assert project.alone(mine, "test_good").block(1).of(CANDIDATE)


def test_nothing_of_an_untidy_test_is_left(project):
    before = psutil.Process().children(recursive=True)
    with Workers(project.launch()) as mine:
        project.alone(mine, "test_untidy").block(1)
        left = [child for child in psutil.Process().children(recursive=True) if child not in before]
        assert len(left) >= 5  # the guard, the worker, and what it left
        assert project.alone(mine, "test_good").block(1).of(CANDIDATE)
    assert [one for one in left if one.is_running() and one.status() != psutil.STATUS_ZOMBIE] == []


def test_each_twin_works_in_the_folder_that_it_went_to(project, workers):
    assert project.twins(workers, "test_moves").block(1).of(BASE)


def test_twins_and_pairs_see_what_is_slower(project, workers):
    assert ratio(project.twins(workers, "test_slower").block(1)) > 4
    assert ratio(project.pairs(workers, "test_slower").block(1)) > 4
    assert 1 / 3 < ratio(project.twins(workers, "test_good").block(1)) < 3


def test_asserts_are_rewritten_in_both_or_in_neither(project, workers):
    """Else they would take different times."""
    assert project.twins(workers, "test_rewritten").block(1).of(BASE)
    assert project.pairs(workers, "test_rewritten").block(1).of(BASE)


def test_temporary_files_of_one_twin_are_not_deleted_by_the_other(project):
    with Workers(project.launch()) as mine:  # whose pytests empty their folders when the first item asks for one
        assert project.twins(mine, "test_files").block(1).of(BASE)


def test_every_view_makes_and_ends_what_a_module_needs_once(project, log):
    with Workers(project.launch()) as mine:
        first, second = "test_with_resource[1]", "test_with_resource[2]"
        project.twins(mine, first, following=second).block(1)
        project.twins(mine, second, following="test_good").block(1)
        project.twins(mine, "test_good").block(1)
    assert sorted(log.read_text().splitlines()) == ["down base", "down here", "up base", "up here"]


def test_what_another_item_was_expected_to_use_is_ended_in_time(project, log):
    with Workers(project.launch()) as mine:
        project.twins(mine, "test_with_resource[1]", following="test_with_resource[2]").block(1)
        project.twins(mine, "test_good").block(1)
    assert log.read_text().splitlines().count("down base") == 1


def test_the_second_measurement_of_a_test_is_a_case_of_its_own(project, workers):
    item = "TestTwice::test_it"
    first = project.twins(workers, item).block(1)
    second = project.twins(workers, f"{item}#2", item=item).block(1)
    assert statistics.median(second.of(BASE)) > 3 * statistics.median(first.of(BASE))


@pytest.mark.parametrize(
    ("name", "revision", "reason"),
    [
        ("test_base_raises", BASE, "ZeroDivisionError: division by zero"),
        ("test_base_dies", BASE, "its process ended with status 4 before it measured"),
        ("test_base_dies_timed", BASE, "its process ended with status 4 before it measured"),
        ("test_candidate_dies", CANDIDATE, "its process ended with status 4 before it measured"),
    ],
)
def test_pairs_tell_which_revision_failed(project, workers, name, revision, reason):
    with pytest.raises(RevisionFailedError) as caught:
        project.pairs(workers, name).block(1)
    assert (caught.value.revision, caught.value.reason) == (revision, reason)
    assert project.pairs(workers, "test_good").block(1).of(BASE)


def test_twins_tell_which_revision_raised_but_not_which_one_died(project, workers):
    with pytest.raises(RevisionFailedError) as caught:
        project.twins(workers, "test_base_raises").block(1)
    assert (caught.value.revision, caught.value.reason) == (BASE, "ZeroDivisionError: division by zero")
    with pytest.raises(WorkerGoneError):
        project.twins(workers, "test_base_dies").block(1)
    assert project.twins(workers, "test_good").block(1).of(BASE)


def test_both_revisions_draw_the_same_and_other_blocks_draw_other_numbers(project, workers):
    log = project.top / "drawn"
    project.twins(workers, "test_draws").block(1)
    project.pairs(workers, "test_draws").block(1)
    project.twins(workers, "test_draws").block(2)
    drawn = log.read_text().split()
    assert len(drawn) == 6
    assert len(set(drawn[:4])) == 1
    assert len(set(drawn[4:])) == 1
    assert drawn[0] != drawn[4]


def test_an_interrupted_question_ends_its_worker(project, monkeypatch):
    """Else its answer would be taken for that to the next question."""
    with Workers(project.launch()) as mine:
        source = project.alone(mine, "test_good")
        source.block(1)
        worker = mine.worker(ALONE, 1, {})

        def interrupted(*_):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(worker, "_answers", interrupted)
            with pytest.raises(KeyboardInterrupt):
                source.block(1)
        assert not worker.is_alive
        assert source.block(1).of(CANDIDATE)


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("--no-such-option", "python -m pytest: error: unrecognized arguments: --no-such-option"),
        ("--rootdir=/no/such/folder", "its process ended with status 4"),
    ],
    ids=["with the plugin", "before the plugin"],
)
def test_a_worker_whose_pytest_does_not_start_says_why(project, option, reason):
    with Workers(project.launch(option)) as mine, pytest.raises(RevisionFailedError, match=r"(?s)no.such") as caught:
        project.pairs(mine, "test_good").block(1)
    assert caught.value.revision == CANDIDATE
    assert caught.value.reason.startswith(reason)


def test_a_base_of_which_nothing_is_used_is_not_compared(project):
    installed = project.top.parent / "site-packages"
    installed.mkdir(exist_ok=True)
    (installed / "mypkg.py").write_text(MYPKG)
    with Workers(project.launch("-o", f"pythonpath={installed}")) as mine:
        for source in (project.twins, project.pairs):
            with pytest.raises(UnusedBaseError, match="no module that is loaded comes from the base"):
                source(mine, "test_good").block(1)
            with pytest.raises(UnusedBaseError):
                source(mine, "test_good").block(1)
