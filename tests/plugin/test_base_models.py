"""Exact metrics and accuracy beside a base: judged against it, and not against what is stored."""

import pytest

from tests.plugin.bases import Repository
from tests.plugin.conftest import CONFTEST, MODEL

pytestmark = pytest.mark.slow

TEST = """
import pytest
import torch

@pytest.mark.perf(models=["net"])
def test_exact(perf_case):
    perf_case.gate(size="0%", flops="0%", operators="0%", peak_memory="1%", accuracy="1pp")

@pytest.mark.perf(models=["net"], techniques=["magnitude-50"])
def test_bounds(perf_case):
    perf_case.gate(size="100%", compression=">=0.9", accuracy=">=1%")

def test_before_it():
    import state
    state.STEPS = 5

def test_after_it(perf):
    import state
    perf(lambda: state.work(), operators="0%", flops="<=1000")
"""
STATE = """
import torch

STEPS = 1

def work():
    return [torch.ones(1) + 1 for _ in range(STEPS)]
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The base has one layer more than the candidate, and the stored baseline is the candidate's."""
    files = {
        "src/net.py": MODEL.replace("layers=2", "layers=3"),
        "src/state.py": STATE,
        "tests/conftest.py": CONFTEST,
        "tests/test_gate.py": TEST,
    }
    made = Repository.with_files(tmp_path_factory.mktemp("models") / "project", files)
    made.put({"src/net.py": MODEL})
    assert made.run("-p", "no:randomly", "--perf-update", "-k", "exact", base="").status == 0
    return made.run("-p", "no:randomly", "--perf-isolation=inprocess")


@pytest.mark.parametrize("metric", ["size", "flops", "operators", "peak_memory", "accuracy"])
def test_each_is_judged_against_the_base(run, metric):
    verdict = run.verdicts["net/fp32/cpu/b1", metric]
    assert verdict["status"] == "IMPROVED"
    assert "main (" in verdict["sentence"]


def test_bounds_and_relations_are_judged_by_themselves_beside_a_tolerance(run):
    assert {run.of("net/magnitude-50/cpu/b1", metric) for metric in ("size", "compression", "accuracy")} == {"PASS"}


def test_what_other_tests_did_before_is_no_difference(run):
    """In this process an earlier test has changed the package; fresh processes run only what is measured."""
    assert (run.of("test_after_it", "operators"), run.of("test_after_it", "flops")) == ("PASS", "PASS")
