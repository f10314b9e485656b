"""The marker perf on tests that use pytest-benchmark's fixture: what it has timed is gated."""

import json

import pytest

from perfsuite.baseline.machine import this_machine
from perfsuite.baseline.schema import Entry, StoredTime
from perfsuite.baseline.store import Store
from tests.plugin.bases import INI, Repository

pytest.importorskip("pytest_benchmark")

WORK = """
import pytest

def work(n):
    return sum(i * i for i in range(n * {factor}))

@pytest.fixture(scope="session")
def size():
    return 1000

@pytest.mark.perf(latency="{limit}")
def test_work(benchmark, size):
    assert benchmark(work, size) == work(size)
"""
QUICK = ("--benchmark-max-time=0.05", "--benchmark-min-rounds=5", "--benchmark-disable-gc")


@pytest.fixture
def project(plain):
    """What pytest-benchmark times here needs no torch: fresh processes start in half the time, where a process starts
    them that has none itself."""
    return plain


@pytest.fixture
def write(project):
    def write(text=WORK, factor=1, limit="400%"):
        project.makepyfile(test_w=text.format(factor=factor, limit=limit))

    return write


@pytest.mark.slow
def test_recorded_judged_and_caught(project, write):
    """The fresh processes that convict save nothing of their own: they measure nothing with pytest-benchmark."""
    write()
    result = project.runpytest_inprocess(*QUICK)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*NO_BASELINE test_w.py::test_work: latency"])
    project.runpytest_subprocess("--perf-update", *QUICK).assert_outcomes(passed=1)
    (time,) = json.loads((project.path / "baselines" / "test_w.json").read_text())["cases"][
        "test_w.py::test_work"
    ]["time"].values()  # fmt: skip
    assert len(time["log_ratios"]) == 2  # fresh processes: perf_blocks
    project.runpytest_inprocess(*QUICK).assert_outcomes(passed=1)
    write(factor=100)
    result = project.runpytest_subprocess(*QUICK, "--benchmark-json=run.json", "--benchmark-autosave")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*REGRESSED test_w.py::test_work: latency", "*fresh block(s): worse than*"])
    assert len(json.loads((project.path / "run.json").read_text())["benchmarks"]) == 1
    assert len(list((project.path / ".benchmarks").rglob("*.json"))) == 1


def test_the_first_look_is_at_the_rounds_that_pytest_benchmark_made(project, write):
    """A bound is met by them alone, and the samples in the report are they."""
    write(limit="<=1 s")
    files = ("--perf-report=ours.json", "--benchmark-json=theirs.json")
    result = project.runpytest_inprocess(*QUICK, *files)
    result.assert_outcomes(passed=1)
    ours = json.loads((project.path / "ours.json").read_text())["samples"]["test_w.py::test_work"]
    theirs = json.loads((project.path / "theirs.json").read_text())["benchmarks"][0]["stats"]["data"]
    assert [ms / 1e3 for block in ours for ms in block] == pytest.approx(theirs, abs=1e-9)


def test_what_pytest_benchmark_reports_and_saves_is_as_ever(project, write):
    write(limit="<=1 s")
    result = project.runpytest_subprocess(*QUICK, "--benchmark-autosave")
    result.stdout.fnmatch_lines(["PASS*", "*benchmark: 1 tests*", "test_work*"])
    assert len(list((project.path / ".benchmarks").rglob("*.json"))) == 1


def test_a_disabled_benchmark_is_left_alone_and_its_baseline_not_called_unused(project, write):
    write(WORK + "\n\ndef test_other(perf):\n    perf(work, 10, latency='<=1 s')\n", limit="400%")
    here = this_machine(1)
    entry = Entry(time={here.id: StoredTime("abc", "interpreter-1", (0.0, 0.0), 1.0)})
    Store(project.path / "baselines").accept("test_w", "test_w.py::test_work", entry, here)
    result = project.runpytest_inprocess("--benchmark-disable")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        ["perfsuite left test_w.py::test_work alone: benchmarks are disabled (--benchmark-disable)"]
    )
    result.stdout.no_fnmatch_line("*not used*")


def test_pedantic_is_gated_and_its_result_returned(project, write):
    write(WORK.replace("benchmark(work, size)", "benchmark.pedantic(work, args=(size,), rounds=6)"), limit="<=1 s")
    result = project.runpytest_inprocess(*QUICK)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["PASS*"])


def test_an_error_of_the_callable_is_its_own(project, write):
    write(WORK.replace("benchmark(work, size)", "benchmark(lambda: 1 / 0)"), limit="<=1 s")
    result = project.runpytest_inprocess(*QUICK)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*ZeroDivisionError*"])


def test_a_test_without_the_marker_is_left_alone(project, write):
    write(WORK.replace('@pytest.mark.perf(latency="{limit}")\n', ""))
    result = project.runpytest_inprocess(*QUICK)
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*PASS*")


@pytest.mark.parametrize(
    ("marker", "says"),
    [
        ('perf(latency="{limit}")', "*'fast' is not a quantity"),
        ("perf(models=['net'])", "*the marker perf has no limits for what benchmark times*"),
    ],
)
def test_a_mistake_in_the_marker_is_found_while_collecting(project, write, marker, says):
    write(WORK.replace('perf(latency="{limit}")', marker), limit="fast")
    result = project.runpytest_inprocess("--collect-only")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([says])


@pytest.mark.parametrize("without", [("-p", "no:benchmark"), ()])
def test_a_fixture_of_that_name_from_elsewhere_is_left_alone(project, write, without):
    """One that is taken for pytest-benchmark's by isinstance is not it, either."""
    project.makeconftest(
        """
        import pytest
        from pytest_benchmark.fixture import BenchmarkFixture

        class Other:
            stats = None
            __class__ = property(lambda self: BenchmarkFixture)

            def __call__(self, function, *args):
                return function(*args)

        @pytest.fixture
        def benchmark():
            return Other()
        """
    )
    write(limit="<=1 s")
    result = project.runpytest_inprocess(*without)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["perfsuite left test_w.py::test_work alone: its fixture benchmark is not pytest-*"])


def test_several_tests_share_the_session_with_perf(project, write):
    write(WORK + "\n\ndef test_other(perf):\n    perf(work, 10, latency='<=1 s')\n", limit="<=1 s")
    result = project.runpytest_inprocess(*QUICK)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*2 PASS*"])


@pytest.mark.slow
def test_beside_a_base_revision_it_needs_no_stored_time(tmp_path):
    text = """
        import pytest
        from mypkg import work

        @pytest.mark.perf(latency="60%")
        def test_it(benchmark):
            assert benchmark(work.work, 4000) > 0

        @pytest.mark.perf(latency="60%")
        def test_same(benchmark):
            assert benchmark(work.same, 4000) > 0
        """
    source = "def work(n):\n    return sum(range(n{}))\n\ndef same(n):\n    return sum(range(n))\n"
    files = {"src/mypkg/__init__.py": "", "src/mypkg/work.py": source.format(""), "tests/test_it.py": text}
    made = Repository.with_files(tmp_path / "top", files, ini=INI.replace("-p no:benchmark ", ""))
    made.put({"src/mypkg/work.py": source.format(" * 4")})
    run = made.run(*QUICK)
    assert (run.status, run.of("test_it"), run.of("test_same")) == (1, "REGRESSED", "PASS"), run.output
