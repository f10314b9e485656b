"""A test that leaves a switch of torch other than it was: it is named, and nothing is measured under it."""

import json

import pytest

pytestmark = pytest.mark.slow

CONFTEST = """
import pytest
import torch
import net
from perfsuite import Built, ModelSpec

def pytest_perfsuite_register(registries):
    make = lambda module, batch_size, seed: torch.ones(batch_size, 32, dtype=torch.float32)
    build = lambda seed: Built(net.Net().float(), "random-init")
    registries.models.register("net", ModelSpec("net", build, make))
"""
WORK = """
import time
import torch

def work(x=torch.ones(64, 64, dtype=torch.float32)):
    if torch.get_default_dtype() == torch.float32:
        time.sleep(0.02)
    return x + torch.ones(64, 64)
"""
TESTS = """
import os
import pytest
import torch
from work import work

@pytest.fixture(scope="module", autouse=True)
def gently():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)

@pytest.fixture
def precise():
    torch.set_float32_matmul_precision("medium")

def test_leaks():
    if os.environ.get("LEAK"):
        torch.set_default_dtype(torch.float64)

def test_with_a_fixture(precise):
    pass

def test_time(perf, precise):
    perf(work, latency="<=10 ms")

def test_memory(perf, precise):
    perf(work, peak_memory="0%", operators="0%")

@pytest.mark.perf(models=["net"], techniques=["int8-dynamic"])
def test_model(perf_case, precise):
    perf_case.gate(peak_memory="0%", operators="0%", compression=">=1.1", sqnr=">=10 dB")

def test_under_another_fixture(perf):
    torch.set_default_dtype(torch.float32)
    perf(work, operators="<=100")
"""


@pytest.fixture
def suite(project):
    project.makeconftest(CONFTEST)
    project.makepyfile(work=WORK, test_leaking=TESTS)

    def run(*options):
        done = project.runpytest_subprocess("-p", "no:randomly", "--perf-report=report.json", *options)
        found = json.loads((project.path / "report.json").read_text())
        verdicts = {
            (one["case"].partition("::")[2] or "net", one["metric"]): one["status"] for one in found["verdicts"]
        }
        return done, verdicts, [note for note in found["notes"] if " left " in note]

    return run


PRECISE = (
    "the fixture 'precise' left torch's float32 matmul precision at medium (highest before): tests after it were "
    "measured in fresh processes, which do not have that; restore it at the end of the test"
)


def test_a_leak_is_named_and_acquits_nothing(suite, monkeypatch):
    done, clean, notes = suite("--perf-update")
    assert clean["net", "operators"] == clean["test_memory", "peak_memory"] == "RECORDED"
    assert notes == [PRECISE]  # for the one test after it that does not use it; the others do, and nothing is amiss
    monkeypatch.setenv("LEAK", "1")
    done, leaking, notes = suite()
    assert leaking == {
        ("test_time", "latency"): "REGRESSED",  # in this process it is fast enough
        ("test_memory", "peak_memory"): "PASS",  # in this process it needs more
        ("test_memory", "operators"): "PASS",
        ("net", "peak_memory"): "PASS",
        ("net", "operators"): "PASS",
        ("net", "compression"): "PASS",
        ("net", "sqnr"): "PASS",
        ("test_under_another_fixture", "operators"): "PASS",
    }
    assert notes == [
        "test_leaking.py::test_leaks left torch's default dtype at torch.float64 (torch.float32 before): tests after "
        "it were measured in fresh processes, which do not have that; restore it at the end of the test",
        PRECISE,
    ]
    done.assert_outcomes(passed=5, failed=1)


def test_what_a_perf_test_leaves_is_not_there_for_the_next_one_of_a_fresh_process(project):
    """A worker serves one test after the other."""
    project.makeconftest("")
    project.makepyfile(
        test_two="""
        import torch

        def test_first(perf):
            torch.set_default_dtype(torch.float64)
            perf(lambda: torch.ones(8) + 1, peak_memory="0%", latency="50%")

        def test_second(perf):
            perf(lambda: torch.ones(8) + 1, peak_memory="0%")
        """
    )
    project.runpytest_subprocess("--perf-update").assert_outcomes(passed=2)
    alone = project.runpytest_subprocess("test_two.py::test_second")
    alone.stdout.fnmatch_lines(["PASS *test_second *="])
