"""How many products with weights are computed on integers, counted where they are computed."""

import pytest
import torch
from torch import nn

from perfsuite import Int8Dynamic
from perfsuite.measure.facts import facts_of
from perfsuite.measure.subject import Subject
from perfsuite.protocols import Inputs, Operators, Program
from perfsuite.registry import METRICS
from perfsuite.techniques.values import parse_technique
from perfsuite.workloads.forward import forward_pass

SHARE = METRICS.get("int8_share")
X = Inputs((torch.ones(2, 8),))


def model():
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4)).eval()


def share(module):
    return facts_of(Subject.of_model(module, X), [SHARE]).exact["int8_share"]


def test_in_eager_torch_they_are_the_layers_that_hold_int8():
    assert share(model()) == 0
    assert share(parse_technique("int8-dynamic").apply(model())) == 1
    assert share(Int8Dynamic(exclude=("0",)).apply(model())) == pytest.approx(2 / 3)
    assert share(parse_technique("weight-only-8").apply(model())) == 0  # which computes on floats


def test_of_another_runtime_they_are_those_of_its_optimized_graph():
    shown = Operators({"MatMul float": 1, "MatMulInteger int8": 3, "Softmax": 2}, {"float": 1, "int8": 3})
    program = Program(model(), operators=lambda: shown)
    found = facts_of(Subject(forward_pass(program, X), program, inputs=X), [SHARE, METRICS.get("operators")])
    assert found.exact == {"int8_share": 0.75, "operators": 6}
    assert found.counts == {"operators": shown.calls}


def test_a_program_that_shows_nothing_has_no_share():
    program = Program(model())
    found = facts_of(Subject(forward_pass(program, X), program, inputs=X, runtime="other"), [SHARE])
    assert found.missing == {"int8_share": "the runtime 'other' does not show its operators"}
    assert not found.exact


def test_a_convolution_counts_as_what_it_computes_in():
    large, small = nn.Conv1d(64, 8, 8), nn.Conv1d(8, 64, 1)
    network = nn.Sequential(small, large, nn.Flatten(), nn.LazyLinear(4)).eval()
    x = Inputs((torch.ones(2, 8, 12),))
    network(*x.args)
    for technique, expected in {"fp32": 0, "int8-dynamic": 2 / 3, "weight-only-8": 0}.items():
        subject = Subject.of_model(parse_technique(technique).apply(network), x)
        assert facts_of(subject, [SHARE]).exact["int8_share"] == pytest.approx(expected)
    assert subject.layers == {"float on 8 bits": 3}
