"""What tests may give to ``perf`` and ``benchmark``: awaited, exhausted, repeated, or refused with one sentence."""

import json
import statistics

import pytest

from tests.plugin.bases import INI, Repository

pytestmark = pytest.mark.slow

pytest.importorskip("pytest_benchmark")

ASYNCHRONOUS = """
import asyncio
import pytest

async def sleep(seconds=0.02):
    await asyncio.sleep(seconds)
    return seconds

def rows():
    yield from range(1000)

async def stream():
    yield 1

limit = pytest.mark.perf(latency="{limit}")

def test_awaited(perf):
    assert perf(sleep, 0.02, latency="{limit}") == 0.02

def test_lambda(perf):
    assert perf(lambda: sleep(), latency="{limit}") == 0.02

def test_exhausted(perf):
    assert perf(lambda: list(rows()), latency="{limit}") == list(range(1000))

@limit
def test_benchmark(benchmark):
    assert benchmark(sleep) == 0.02

@limit
def test_pedantic(benchmark):
    assert benchmark.pedantic(sleep, args=(0.02,), rounds=5) == 0.02
"""
REFUSED = """
def test_generator(perf):
    perf(rows, latency="{limit}")

def test_stream(perf):
    perf(stream, latency="{limit}")

@limit
def test_benchmark_lambda(benchmark):
    benchmark(lambda: sleep())

@limit
def test_benchmark_generator(benchmark):
    benchmark(rows)

@pytest.mark.anyio
async def test_inside(perf):
    perf(sleep, latency="{limit}")

@pytest.fixture
def anyio_backend():
    return "asyncio"
"""
AWAITED = ("test_awaited", "test_lambda", "test_benchmark", "test_pedantic")
QUICK = ("--perf-report=run.json", "--benchmark-max-time=0.05", "--benchmark-min-rounds=5", "-W", "ignore")


def lines_of(result, name):
    """What is printed of a test that failed: its two lines."""
    lines = result.stdout.lines
    start = next(number for number, line in enumerate(lines) if f"::{name}: " in line)
    return lines[start].partition(f"::{name}: ")[2], lines[start + 1].strip()


def stored(project, name):
    (time,) = json.loads((project.path / "baselines" / "test_it.json").read_text())["cases"][f"test_it.py::{name}"][
        "time"
    ].values()
    return time


@pytest.fixture
def project(plain):
    """What is called needs no torch."""
    return plain


def milliseconds(project, name):
    """The median of what the report holds of a test."""
    samples = json.loads((project.path / "run.json").read_text())["samples"][f"test_it.py::{name}"]
    return statistics.median(ms for block in samples for ms in block)


def test_what_is_asynchronous_is_awaited_in_place_and_what_is_not_done_is_refused(project):
    pytest.importorskip("anyio")
    project.makepyfile(test_it=(ASYNCHRONOUS + REFUSED).replace("{limit}", "<=9 s"))
    result = project.runpytest_subprocess(*QUICK)
    result.assert_outcomes(passed=5, failed=5)
    assert all(milliseconds(project, name) >= 20 for name in AWAITED)
    assert lines_of(result, "test_generator") == (
        "the call returns a lazy iterator (generator): only its making would be timed",
        "remedy: let the callable exhaust it: lambda: list(function())",
    )
    assert lines_of(result, "test_benchmark_generator") == lines_of(result, "test_generator")
    assert lines_of(result, "test_stream")[0].startswith("the call returns an asynchronous iterator (async_generator)")
    assert lines_of(result, "test_benchmark_lambda") == (
        "the call returns an awaitable (coroutine): only its making would be timed",
        "remedy: give the coroutine function itself, with its arguments: it is awaited",
    )
    assert lines_of(result, "test_inside") == (
        "the call returns an awaitable (coroutine), and cannot be awaited here, inside of a running event loop",
        "remedy: make the test a plain function ('def', not 'async def'): there it is awaited",
    )


def test_and_in_fresh_processes(project):
    project.makepyfile(test_it=ASYNCHRONOUS.replace("{limit}", "400%"))
    project.runpytest_subprocess(*QUICK, "--perf-update").assert_outcomes(passed=5)
    assert all(stored(project, name)["p50_ms"] >= 20 for name in AWAITED)
    assert stored(project, "test_exhausted")["p50_ms"] < 20


STATE = """
import time
import pytest

limit = pytest.mark.perf(latency="{limit}")

def make():
    time.sleep(0.02)
    return [3, 1, 2], set()

def use_up(numbers, seen):
    assert not seen and numbers == [3, 1, 2]
    seen.add(1)
    numbers.sort()
    return numbers

def test_fresh(perf):
    assert perf(use_up, setup=make, latency="{limit}") == [1, 2, 3]

def test_beside_arguments(perf):
    assert perf(int, "11", setup=lambda: ((), {"base": 2}), latency="{limit}") == 3

@limit
def test_pedantic(benchmark):
    assert benchmark.pedantic(use_up, setup=lambda: (make(), {}), rounds=5) == [1, 2, 3]

closed = []

@limit
def test_torn_down(benchmark):
    benchmark.pedantic(closed.append, args=(1,), teardown=lambda one: closed.remove(one), rounds=5)
    assert closed == []
"""
UNREPEATABLE = """
def test_next(perf):
    perf(next, iter(range(3)), latency="{limit}")

def test_insert(perf):
    seen = set()

    def insert():
        if seen:
            raise KeyError("seen")
        seen.add(1)

    perf(insert, latency="{limit}")

def test_grows(perf):
    kept = []

    def grow():
        kept.extend(range(300))
        return sum(kept)

    perf(grow, latency="{limit}")
"""


def test_fresh_state_is_made_before_each_call_and_what_cannot_be_repeated_is_said(project):
    project.makepyfile(test_it=(STATE + UNREPEATABLE).replace("{limit}", "<=1 s"))
    result = project.runpytest_subprocess(*QUICK)
    result.assert_outcomes(passed=4, failed=2)
    assert max(milliseconds(project, "test_fresh"), milliseconds(project, "test_pedantic")) < 20
    what, remedy = lines_of(result, "test_next")
    assert what == "it cannot be repeated: call 4 raised StopIteration"
    assert remedy.startswith("remedy: give each call state of its own: perf(function, setup=make)")
    what, _ = lines_of(result, "test_insert")
    assert what.startswith("it cannot be repeated: call 2 raised KeyError: 'seen' (test_it.py:")
    result.stdout.fnmatch_lines(
        ["NOT_MEASURED test_it.py::test_grows: latency", "*no one value: later calls take * times as long*", "*setup=*"]
    )


def test_and_so_it_is_in_fresh_processes_and_nothing_is_recorded_that_grows(project):
    project.makepyfile(test_it=(STATE + UNREPEATABLE).replace("{limit}", "900%"))
    result = project.runpytest_subprocess(*QUICK, "--perf-update")
    result.assert_outcomes(passed=4, failed=2)
    assert max(stored(project, name)["p50_ms"] for name in ("test_fresh", "test_pedantic")) < 20
    what, remedy = lines_of(result, "test_next")
    assert (
        what == "test_it.py::test_next, in a fresh process, under its candidate revision: it cannot be repeated: "
        "call 4 raised StopIteration"
    )
    assert remedy.startswith("remedy: give each call state of its own")
    result.stdout.fnmatch_lines(["NOT_MEASURED test_it.py::test_grows: latency", "*later calls take * times as long*"])
    assert "test_it.py::test_grows" not in (project.path / "baselines" / "test_it.json").read_text()


def test_beside_a_base_revision_the_setup_is_not_timed_either(tmp_path):
    test = """
        from mypkg import work

        def make():
            return [list(range({size})) for _ in range(300)]

        def test_sort(perf):
            perf(work.use_up, setup=make, latency="60%")

        def test_leak(perf):
            perf(work.leak, latency="60%")
        """
    source = "kept = []\ndef use_up(rows):\n    return [rows.pop() for _ in range(300)]\n\ndef leak():\n    {}\n"
    files = {
        "src/mypkg/__init__.py": "",
        "src/mypkg/work.py": source.format("return sum(range(1000))"),
        "tests/test_it.py": test.replace("{size}", "1"),
    }
    made = Repository.with_files(tmp_path / "top", files, ini=INI)
    made.put(
        {
            "src/mypkg/work.py": source.format("kept.extend(range(50)); return sum(kept) + sum(range(1000))"),
            "tests/test_it.py": test.replace("{size}", "100"),
        }
    )
    run = made.run()
    assert (run.of("test_sort"), run.of("test_leak")) == ("PASS", "REGRESSED"), run.output
    assert "later calls take" in run.output
