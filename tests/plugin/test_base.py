"""pytest --perf-base: every kind of item in one run, beside a base that differs from the working tree."""

import pytest

from tests.plugin.bases import Repository

BASE = {
    "src/mypkg/__init__.py": "",
    "src/mypkg/work.py": """
        def equal(n=800):
            return sum(i * i for i in range(n))

        def slower(n=800):
            return equal(n)

        def faster(n=800):
            return equal(5 * n)

        def changed(n):
            return n

        def broken():
            raise RuntimeError("not yet written")

        def deadly():
            return 1

        NAMES = ["one"]
        """,
    "tests/test_all.py": """
        def test_named(perf): ...
        def test_changed(perf): ...
        def test_broken(perf): ...
        def test_deadly(perf): ...
        """,
}
CANDIDATE = {
    "src/mypkg/new.py": "def f(): return 1",
    "src/mypkg/work.py": """
        import os

        def equal(n=800):
            return sum(i * i for i in range(n))

        def slower(n=800):
            return equal(5 * n)

        def faster(n=800):
            return equal(n)

        def changed(n, m):
            return n

        def broken():
            return 1

        def deadly():
            os._exit(3)

        NAMES = ["one", "two"]
        """,
    "tests/test_all.py": """
        import pytest
        from mypkg import work

        IN_WORKER = "_perfsuite_server" in __import__("sys").modules

        @pytest.mark.parametrize("n", [800], ids=["a b[\\u00e9]::x"])
        def test_equal(perf, n):
            perf(work.equal, n, latency="60%")

        @pytest.mark.parametrize("name", work.NAMES[1:] if IN_WORKER else ["two"])
        def test_named(perf, name):
            perf(len, name, latency="60%")

        def test_changed(perf):
            perf(work.changed, 1, 2, latency="60%")

        def test_broken(perf):
            perf(work.broken, latency="60%")

        def test_deadly(perf):
            if IN_WORKER:
                work.deadly()
            perf(lambda: 1, latency="60%")

        class TestTimes:
            @pytest.mark.perf(latency="60%")
            def test_slower(self, perf):
                perf(work.slower)

            def test_faster(self, perf):
                perf(work.faster, latency="60%")

        def test_new_module(perf):
            from mypkg import new
            perf(new.f, latency="60%")

        def test_nothing(perf):
            perf(lambda: None, latency="60%")

        @pytest.mark.perf(latency="60%")
        def test_never_measures(perf):
            pass

        @pytest.mark.xfail(strict=True)
        def test_expected_to_fail(perf):
            perf(work.equal, latency="60%")
            assert False

        @pytest.mark.skip
        def test_skipped(perf):
            perf(work.equal, latency="60%")

        def test_twice(perf):
            perf(work.equal, latency="<=10 s")
            perf(lambda: None, latency="<=10 s", throughput=">=0.1")
        """,
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    made = Repository.with_files(tmp_path_factory.mktemp("base") / "project", BASE)
    made.put(CANDIDATE)  # uncommitted changes are the candidate
    return made


@pytest.fixture(scope="module")
def run(repository):
    return repository.run("-p", "no:randomly", "-v")


def test_equal_code_passes(run):
    [equal] = [verdict for (name, _), verdict in run.verdicts.items() if name.startswith("test_equal[")]
    assert equal["status"] == "PASS"
    assert "beside main (" in equal["sentence"]
    assert "as twins in" in equal["sentence"]
    assert run.of("test_nothing") == "PASS"
    assert run.notes[1].startswith("base: merge-base ")


def test_what_is_slower_regressed_and_what_is_faster_improved(run):
    slower, faster = (
        run.verdicts["TestTimes::test_slower", "latency"],
        run.verdicts["TestTimes::test_faster", "latency"],
    )
    assert (slower["status"], faster["status"]) == ("REGRESSED", "IMPROVED")
    assert slower["change"] > 2.5
    assert faster["change"] < 0.4
    assert "the base beside itself" in run.output  # the control was measured before it was said


def test_what_the_base_lacks_or_fails_on_is_not_measured_and_says_why(run):
    for name in ("test_changed", "test_broken", "test_new_module", "test_named[two]"):
        assert run.of(name) == "NOT_MEASURED"
    base = "has nothing to compare with: it fails on main ("
    assert base in run.said("test_changed")
    assert run.said("test_changed").endswith("(TypeError: changed() takes 1 positional argument but 2 were given)")
    assert run.said("test_broken").endswith("(RuntimeError: not yet written)")
    assert "has nothing to compare with: it is new since main (" in run.said("test_new_module")
    assert "cannot import name 'new'" in run.said("test_new_module")
    assert "it is new since main (" in run.said("test_named[two]")
    assert run.said("test_named[two]").endswith("test_named[two] was not collected)")


def test_a_candidate_that_dies_in_a_fresh_process_fails_its_item_alone(run):
    assert ("test_deadly", "latency") not in run.verdicts
    assert "a fresh process for tests/test_all.py::test_deadly ended with status 3" in run.output
    assert "Traceback" not in run.output
    assert "INTERNALERROR" not in run.output


def test_bounds_are_judged_by_themselves(run):
    assert {run.of("test_twice"), run.of("test_twice#2"), run.of("test_twice#2", "throughput")} == {"PASS"}
    assert "beside main" not in run.said("test_twice")


def test_outcomes_of_items(run):
    for line in (
        "TestTimes::test_slower FAILED", "TestTimes::test_faster PASSED", "test_never_measures FAILED",
        "test_expected_to_fail XFAIL", "test_skipped SKIPPED", "test_changed PARTIAL", "test_deadly FAILED",
    ):  # fmt: skip
        assert line in run.output, line
    assert "its marker has limits, but the test judged nothing" in run.output
    assert run.status == 1


def test_nothing_is_registered_in_the_repository(run, repository):
    assert repository.is_clean()


@pytest.mark.slow
def test_what_was_not_measured_fails_only_where_that_is_asked_for(repository):
    broken, other = "tests/test_all.py::test_broken", "tests/test_all.py::test_nothing"
    assert repository.run(broken, other, "-p", "no:randomly").status == 0
    strict = repository.run(broken, other, "-p", "no:randomly", "--perf-strict")
    assert strict.status == 1
    assert strict.of("test_broken") == "NOT_MEASURED"
    alone = repository.run(broken, "-p", "no:randomly")
    assert alone.status == 1  # nothing at all was compared


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--perf-base=no-such-branch"], "no such revision"),
        (["--perf-base=--help"], "'--help' is no revision"),
        (["--perf-base=-x"], "'-x' is no revision"),
        (["--perf-base=main:src"], "names a file"),
        (["--perf-base= "], "--perf-base is empty"),
        (["--perf-base=main", "--perf-update"], "--perf-base judges and --perf-update accepts"),
        (["--perf-base=main", "--perf-isolation=triplets"], "must be one of auto, inprocess, processes"),
    ],
)
def test_a_wrong_base_is_a_usage_error_before_anything_is_measured(repository, pytester, options, message):
    place = ["-c", str(repository.folder / "pytest.ini"), "-p", "no:randomly", str(repository.folder / "tests")]
    result = pytester.runpytest_inprocess(*place, *options)
    assert result.ret == 4
    assert message in "\n".join(result.errlines)
    assert "Traceback" not in str(result.stdout) + str(result.stderr)


def test_outside_of_a_repository_it_is_a_usage_error(pytester):
    pytester.makepyfile("def test_it(perf):\n    perf(lambda: 1, latency='60%')")
    result = pytester.runpytest_inprocess("--perf-base=main")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*is not in the working tree of a git repository*"])
