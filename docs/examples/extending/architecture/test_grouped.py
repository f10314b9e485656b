import pytest

from conftest import GROUPED, MODEL
from perfsuite import Structured
from perfsuite.testing import ArchitectureContract


# The laws of removing heads and units: the small model equals the masked one, and so on.
class TestGrouped(ArchitectureContract):
    architecture = GROUPED
    model = MODEL


@pytest.mark.perf(models=["grouped"], techniques=["structured-50"])
def test_half_of_it(perf_case):
    perf_case.gate(parameters="0%", flops="0%", compression=">=1.8")


def test_any_test_knows_the_architecture():
    half = Structured(heads=0.5, units=0.5).apply(MODEL.build(0).module)
    assert [block.groups for block in half] == [2, 2]
