import pytest
import torch

from perfsuite.errors import UsageError
from perfsuite.protocols import Inputs
from perfsuite.training.batches import batch_size_of, split


def test_a_batch_is_split_in_order_with_what_belongs_to_it():
    batch = Inputs((torch.arange(10).reshape(5, 2), "same"), {"mask": torch.arange(5)}, labels=torch.arange(5))
    parts = list(split(batch, 2))
    assert [batch_size_of(part) for part in parts] == [3, 2]
    assert torch.equal(torch.cat([part.args[0] for part in parts]), batch.args[0])
    assert torch.equal(torch.cat([part.kwargs["mask"] for part in parts]), batch.kwargs["mask"])
    assert torch.equal(torch.cat([part.labels for part in parts]), batch.labels)
    assert {part.args[1] for part in parts} == {"same"}


def test_what_is_not_of_the_batch_goes_to_every_part():
    positions = torch.arange(3)
    assert all(part.args[1] is positions for part in split(Inputs((torch.zeros(4, 2), positions)), 2))


def test_one_part_is_the_batch_itself():
    batch = Inputs((torch.zeros(3, 2),))
    assert list(split(batch, 1)) == [batch]


def test_a_batch_that_is_too_small_is_refused():
    with pytest.raises(UsageError, match="a batch of 3 cannot be split into 4 micro-batches"):
        list(split(Inputs((torch.zeros(3, 2),)), 4))


def test_a_batch_without_examples_is_refused():
    with pytest.raises(UsageError, match="no tensor with a first dimension"):
        batch_size_of(Inputs((torch.tensor(1.0), 2)))
