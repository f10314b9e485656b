"""What a graph says it is right for: sizes that may change, those that may not, and what is never answered."""

import logging

import pytest
import torch
from torch import nn

from perfsuite.errors import TechniqueError, UsageError
from perfsuite.export.graph import exported
from perfsuite.models.encoder import TransformerEncoder
from perfsuite.protocols import Inputs


def signature(module, *args, **kwargs):
    return exported(module, Inputs(args, kwargs)).signature


def shapes(module, *args, **kwargs):
    return [argument.shape for argument in signature(module, *args, **kwargs).inputs]


class Calling(nn.Module):
    """A function as a module of two tensors, or one."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x, y=None):
        return self.function(x) if y is None else self.function(x, y)


def encoder(longest=16):
    return TransformerEncoder(50, 8, 2, 1, 8, dropout=0.0, max_seq_length=longest)


def test_a_width_that_weights_have_is_a_number():
    assert shapes(nn.Linear(6, 4), torch.randn(3, 6)) == [("batch", 6)]


def test_a_size_of_one_may_change():
    found = signature(encoder(), torch.ones(1, 1, dtype=torch.long))
    assert found.inputs[0].shape == ("batch", "sequence")
    assert str(found.ranges["sequence"]) == "1 to 16"


def test_a_size_of_one_that_may_not_change_is_a_number():
    assert shapes(nn.Linear(1, 4), torch.randn(1, 1)) == [("batch", 1)]
    assert shapes(encoder(longest=1), torch.ones(1, 1, dtype=torch.long)) == [("batch", 1)]


def test_a_size_of_one_that_the_module_has_no_answer_for_is_refused():
    found = signature(Calling(lambda x: x[:, 1] + x[:, 0]), torch.randn(4, 3, 5))
    assert {name: here.low for name, here in found.ranges.items()} == {"batch": 1, "sequence": 2, "x_2": 1}
    with pytest.raises(UsageError, match="the sequence of 'x' is 1, and the program takes at least 2"):
        found.bind((torch.randn(4, 1, 5),), {})


def test_the_batch_of_a_state_may_stand_on_another_axis():
    """The state of an LSTM cell: (2, B, D)."""
    cell = nn.LSTMCell(4, 8)
    found = shapes(Calling(lambda x, state: cell(x, (state[0], state[1]))[0]), torch.randn(3, 4), torch.randn(2, 3, 8))
    assert found == [("batch", 4), ("y_0", "batch", 8)]


def test_height_and_width_before_a_layer_are_numbers():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(64, 3))
    assert shapes(model, torch.randn(2, 1, 6, 6)) == [("batch", 1, 6, 6)]


def test_height_and_width_before_a_pool_may_change():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.AdaptiveAvgPool2d(1))
    found = signature(model, torch.randn(2, 3, 8, 8))
    assert found.inputs[0].shape == ("batch", 3, "input_2", "input_3")
    assert str(found.ranges["input_2"]) == "at least 3"  # of less, the pool would get one number: another graph


def test_a_multiple_of_something_is_a_number():
    assert shapes(Calling(lambda x: x.reshape(x.shape[0], -1, 2).sum(-1)), torch.randn(3, 4)) == [("batch", 4)]


def test_a_size_with_a_branch_of_its_own_is_refused():
    found = signature(Calling(lambda x: x + 1 if x.shape[1] == 5 else x - 1), torch.randn(3, 4))
    assert str(found.ranges["sequence"]) == "at least 1 without 5"
    with pytest.raises(UsageError, match="the sequence of 'x' is 5, and the program takes at least 1 without 5"):
        found.bind((torch.randn(3, 5),), {})
    found.bind((torch.randn(3, 6),), {})


def test_sizes_that_are_at_most_each_other_are_one():
    def both(x, y):
        torch._check(x.shape[1] <= y.shape[1])
        torch._check(y.shape[1] <= x.shape[1])
        return x.sum(1) + y.sum(1)

    assert shapes(Calling(both), torch.randn(3, 4), torch.randn(3, 4)) == [("batch", "sequence")] * 2


def test_a_module_in_training_is_exported_as_it_is_evaluated_and_left_in_training():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5)).train()
    before = model[1].running_mean.clone()
    x = torch.randn(2, 1, 5, 5)
    program = exported(model, Inputs((x,))).program.module()
    assert model.training
    assert torch.equal(model[1].running_mean, before)
    assert torch.allclose(program(x)[0], model.eval()(x), atol=1e-6)


def test_what_cannot_be_exported_is_said_once(capfd, caplog):
    with caplog.at_level(logging.WARNING), pytest.raises(TechniqueError, match="does not export"):
        exported(Calling(lambda x: x + 1 if x.sum() > 0 else x), Inputs((torch.randn(2, 2),)))
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_a_mapping_in_the_place_of_a_tensor_is_refused_by_name():
    with pytest.raises(TechniqueError, match="the input 'x' is a dict"):
        exported(Calling(lambda x: x["ids"]), Inputs(({"ids": torch.ones(2)},)))
