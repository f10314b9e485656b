"""Each law of metrics is seen to catch the defect that it is about."""

import itertools

import pytest
import torch
from torch import nn

from perfsuite.errors import UsageError
from perfsuite.measure.subject import Subject
from perfsuite.metric import Direction, Exact, Metric, PerExample, Relation, Sampled, Scores
from perfsuite.metrics.dispatched import OPERATORS
from perfsuite.metrics.fidelity import SQNR
from perfsuite.metrics.saved import SIZE
from perfsuite.metrics.times import LATENCY
from perfsuite.protocols import Inputs
from perfsuite.testing import METRIC_LAWS, MetricContract, metrics
from perfsuite.testing.strategies import models
from perfsuite.units import Unit

LOWER = Direction.LOWER


class Quiet(MetricContract):
    samples = models(kinds=["MLP"])


class TestOperators(Quiet):
    metric = OPERATORS


class TestSize(Quiet):
    metric = SIZE


class TestSqnr(Quiet):
    metric = SQNR


class TestLatency(Quiet):
    metric = LATENCY


def subject():
    torch.manual_seed(0)
    return Subject.of_model(nn.Linear(3, 2), Inputs((torch.ones(1, 3),)))


def exact(function):
    return Metric("mine", Unit.COUNT, LOWER, Exact(function))


def counting(values):
    left = iter(values)
    reader = type("Reader", (), {"read": lambda self: next(left)})
    return Metric("mine", Unit.JOULES, LOWER, Sampled(reader))


numbers = itertools.count()
DEFECTS = {
    "can_be_registered": Metric("mine", Unit.COUNT, LOWER, "no probe"),
    "has_a_finite_number": exact(lambda subject: float("nan")),
    "has_a_finite_number, of each example": Metric(
        "mine", Unit.NUMBER, LOWER, PerExample(lambda subject: Scores("t", "e", (1.0, float("inf"))))
    ),
    "is_the_same_each_time": exact(lambda subject: next(numbers)),
    "is_the_same_each_time, as a relation": Metric(
        "mine", Unit.RATIO, LOWER, Relation(lambda candidate, original: float(next(numbers)))
    ),
    "counts_what_calls_use": counting(itertools.repeat(1.0)),
    "counts_what_calls_use, and never falls": counting(itertools.count(9, -1)),
}


@pytest.mark.parametrize(("law", "metric"), DEFECTS.items(), ids=DEFECTS)
def test_a_defect_is_caught(law, metric, monkeypatch):
    monkeypatch.setattr(metrics, "_MOST_CALLS", 50)
    checked = getattr(metrics, law.partition(",")[0])
    with pytest.raises((AssertionError, UsageError)):
        checked(metric, subject())
    for right in (exact(lambda subject: 3), counting(itertools.count(0.5))):
        checked(right, subject())


def test_each_law_has_its_defect():
    assert {law.__name__ for law in METRIC_LAWS} == {name.partition(",")[0] for name in DEFECTS}
