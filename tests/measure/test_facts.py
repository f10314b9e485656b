"""What is measured of subjects without noise, and the reason where there is nothing."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from perfsuite.measure.facts import facts_of, relations_of
from perfsuite.measure.subject import Subject
from perfsuite.metric import DISPATCH, TASK, WEIGHTS, Counted, Direction, Exact, Metric, PerExample, Relation, Scores
from perfsuite.metrics.correctness import ACCURACY, ACCURACY_KEPT
from perfsuite.metrics.fidelity import AGREEMENT, SQNR
from perfsuite.metrics.saved import COMPRESSION, SIZE
from perfsuite.metrics.times import LATENCY
from perfsuite.protocols import Inputs
from perfsuite.units import Unit


class Task:
    name, examples = "t", "e"
    asked = 0

    def score(self, model):
        Task.asked += 1
        return Scores("t", "e", (True, False))


def metric(probe, name="mine"):
    return Metric(name, Unit.NUMBER, Direction.LOWER, probe)


def subject(make_task=None, width=2):
    model = nn.Linear(2, width, bias=False).eval()
    return Subject.of_model(model, Inputs((torch.ones(1, 2),)), "m", make_task)


def test_each_shape_has_its_place():
    mine = metric(Counted(lambda subject: {"a": 2, "b": 3}), "counted")
    found = facts_of(subject(), [metric(Exact(lambda subject: 7)), mine, LATENCY, COMPRESSION])
    assert found.exact == {"mine": 7, "counted": 5}
    assert found.counts == {"counted": {"a": 2, "b": 3}}
    assert (found.per_example, found.missing) == ({}, {})


def test_nothing_is_observed_that_no_metric_needs():
    """A callable that may not be called: there is nothing to trace for a number that needs nothing."""
    untouched = Subject.of_callable(lambda: pytest.fail("it was called"), "f")
    assert facts_of(untouched, [metric(Exact(lambda subject: 7)), LATENCY]).exact == {"mine": 7}


def test_a_score_that_metrics_share_is_taken_once():
    Task.asked = 0
    found = facts_of(subject(Task), [ACCURACY, ACCURACY_KEPT])
    assert Task.asked == 1
    assert found.per_example == dict.fromkeys(("accuracy", "accuracy_kept"), Scores("t", "e", (True, False)))


def test_what_is_missing_says_why():
    mine = metric(PerExample(lambda subject: Scores("t", "e", (1.0,)), TASK))
    assert facts_of(subject(), [mine]).missing == {"mine": "the model has no task"}
    assert facts_of(subject(Task), [mine]).per_example["mine"].mean == 1.0
    nothing_seen = Subject.of_callable(lambda: None, "f")
    for needs in (DISPATCH, DISPATCH | WEIGHTS):
        found = facts_of(nothing_seen, [metric(Exact(lambda subject: 7, needs))])
        assert not found.exact
    assert facts_of(nothing_seen, [metric(Exact(len, DISPATCH))]).missing == {
        "mine": "no operator of torch was seen in a call"
    }
    assert facts_of(nothing_seen, [SIZE, ACCURACY]).missing == {}  # a plain callable is not of their kind


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_no_value(value):
    """Never green on NaN: it is neither better nor worse than anything."""
    found = facts_of(subject(), [metric(Exact(lambda subject: value))])
    assert (found.exact, found.missing) == ({}, {"mine": f"its function gave {value}"})
    found = facts_of(subject(), [metric(PerExample(lambda subject: Scores("t", "e", (1.0, value))))])
    assert (found.per_example, found.missing) == ({}, {"mine": f"its function gave {value}"})
    related = relations_of(subject(), subject(), [metric(Relation(lambda candidate, original: value))])
    assert related == ({}, {"mine": f"its function gave {value}"})


def test_scores_of_no_examples_are_none():
    found = facts_of(subject(), [metric(PerExample(lambda subject: Scores("t", "e", ())))])
    assert (found.per_example, found.missing) == ({}, {"mine": "its function gave no examples"})


def test_relations_are_measured_on_both():
    one, other = subject(width=4), subject(width=2)
    found, missing = relations_of(one, other, [COMPRESSION, LATENCY])
    assert found == {"compression": other.stored.size_bytes / one.stored.size_bytes}
    assert not missing
    same, _ = relations_of(one, one, [SQNR, AGREEMENT])
    assert same == {"sqnr": 300.0, "agreement": 1.0}


def test_a_relation_needs_both_to_be_observable():
    plain = subject()
    empty = Subject.of_model(nn.ReLU().eval(), Inputs((torch.ones(1, 2),)), "empty")
    why = {"compression": "its state dict is empty: what it computes with is not in the file"}
    assert relations_of(plain, empty, [COMPRESSION]) == ({}, why)
    assert relations_of(empty, plain, [COMPRESSION]) == ({}, why)
    unneeding = replace(COMPRESSION, probe=Relation(lambda candidate, original: None))
    assert relations_of(empty, plain, [unneeding]) == ({}, {})
