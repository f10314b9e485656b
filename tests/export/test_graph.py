"""A graph whose batch and sequence are free, named as the module names them; what cannot be exported is refused."""

import pytest
import torch
from torch import nn

from perfsuite import create_test_transformer
from perfsuite.errors import TechniqueError
from perfsuite.export.graph import exported
from perfsuite.export.signature import Range
from perfsuite.protocols import Inputs
from perfsuite.testing.contract import state_bytes


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x, *, scale=1.0, other=None):
        y = self.linear(x) * scale
        return {"first": y, "second": y if other is None else y + other}


class OnValues(nn.Module):
    def forward(self, x):
        return x + 1 if float(x.sum()) > 0 else x


def test_batch_and_sequence_of_an_encoder_are_free_up_to_its_longest_input():
    model = create_test_transformer("small").eval()
    signature = exported(model, Inputs((torch.zeros(1, 7, dtype=torch.int64),))).signature
    (argument,) = signature.inputs
    assert argument.shape == ("batch", "sequence")
    assert signature.ranges["batch"] == Range(1, None)
    assert signature.ranges["sequence"].low == 1


def test_a_graph_computes_what_the_module_does_at_another_batch():
    model, x = Two().eval(), torch.randn(5, 4)
    graph = exported(model, Inputs((torch.randn(1, 4),), {"scale": 2.0}))
    assert graph.signature.outputs == ("first", "second")
    assert graph.signature.constants == {"scale": 2.0}
    assert graph.signature.returns == "mapping"
    found = graph.program.module()(x)
    assert torch.equal(found[0], model(x, scale=2.0)["first"])


def test_inputs_by_keyword_keep_their_names():
    graph = exported(Two().eval(), Inputs((), {"x": torch.randn(2, 4), "other": torch.randn(2, 3)}))
    assert [argument.name for argument in graph.signature.inputs] == ["x", "other"]


def test_the_given_module_stays_as_it_is_in_train_mode():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)).train()
    before = state_bytes(model)
    graph = exported(model, Inputs((torch.randn(3, 4),)))
    assert state_bytes(model) == before
    assert model.training
    assert all(part.training for part in model)
    x = torch.randn(2, 4)
    assert torch.equal(graph.program.module()(x)[0], model.eval()(x))


@pytest.mark.parametrize(
    ("model", "inputs", "words"),
    [
        (OnValues(), Inputs((torch.ones(2),)), "does not export"),
        (Two(), Inputs(([torch.ones(2, 4)],)), "'x' is a list: only tensors and plain values"),
        (Two(), Inputs((), {"scale": 2.0}), "called without a tensor"),
    ],
)
def test_what_cannot_be_exported_is_refused_with_a_remedy(model, inputs, words):
    with pytest.raises(TechniqueError, match=words) as caught:
        exported(model, inputs)
    assert caught.value.remedy
