import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from perfsuite import Examples
from perfsuite.distillation.data import data_of
from perfsuite.errors import UsageError
from tests.distillation.small import batches


def texts(count=500, width=12):
    torch.manual_seed(0)
    lengths = torch.randint(1, width + 1, (count,))
    mask = (torch.arange(width) < lengths.unsqueeze(1)).long()
    return {"input_ids": torch.arange(count).unsqueeze(1) * mask, "attention_mask": mask}, torch.arange(count)


@pytest.mark.parametrize("mask", ["", "attention_mask"])
def test_every_example_comes_once_in_each_epoch_with_its_label(mask):
    inputs, labels = texts()
    data = Examples(inputs, labels, 7, mask)
    orders = []
    for epoch in range(2):
        found = list(data.epoch(3, epoch))
        assert len(found) == data.batches == 72
        order = [row for batch in found for row in batch.rows]
        assert sorted(order) == list(range(500))
        assert all(batch.inputs.labels.tolist() == list(batch.rows) for batch in found)
        assert all(batch.inputs.kwargs["input_ids"][:, 0].tolist() == list(batch.rows) for batch in found)
        orders.append(order)
    assert orders[0] != orders[1]
    assert [row for batch in data.epoch(3, 0) for row in batch.rows] == orders[0]
    assert [row for batch in data.epoch(4, 0) for row in batch.rows] != orders[0]
    assert sorted(row for batch in data.once() for row in batch.rows) == list(range(500))


def test_padding_of_a_whole_batch_is_cut_off_and_lengths_come_together():
    inputs, labels = texts()
    found = list(Examples(inputs, labels, 10, "attention_mask").epoch(0, 0))
    for batch in found:
        mask = batch.inputs.kwargs["attention_mask"]
        assert mask.any(dim=0).all()
        assert batch.inputs.kwargs["input_ids"].shape == mask.shape
    padded = sum(int((batch.inputs.kwargs["attention_mask"] == 0).sum()) for batch in found)
    assert padded < 0.15 * int(inputs["attention_mask"].sum())


def test_padding_on_the_left_is_cut_off_too():
    mask = torch.tensor([[0, 0, 1, 1], [0, 1, 1, 1]])
    (batch,) = Examples({"input_ids": mask * 5, "mask": mask}, None, 2, "mask").epoch(0, 0)
    assert batch.inputs.kwargs["mask"].shape == (2, 3)


DATA = {
    "examples": lambda: Examples(*texts(), 7),
    "list": batches,
    "loader": lambda: DataLoader(TensorDataset(torch.arange(40.0)), 4, shuffle=True),
    "loader with a generator": lambda: DataLoader(
        TensorDataset(torch.arange(40.0)), 4, shuffle=True, generator=torch.Generator()
    ),
    "loader that augments": lambda: DataLoader(Augmented(), 4, shuffle=True),
}


class Augmented(torch.utils.data.Dataset):
    """Each example is drawn with all three generators."""

    def __len__(self):
        return 20

    def __getitem__(self, index):
        return index + torch.rand(1) + random.random() + np.random.rand()


def values(batches):
    return [next(iter((*batch.inputs.args, *batch.inputs.kwargs.values()))).tolist() for batch in batches]


@pytest.mark.parametrize("kind", DATA)
def test_an_epoch_can_be_taken_up_at_any_batch(kind):
    whole = values(data_of(DATA[kind]()).epoch(0, 1))
    torch.rand(5), random.random(), np.random.rand()
    data = data_of(DATA[kind]())
    list(data.epoch(0, 0))
    for start in (0, 1, 4, len(whole)):
        assert values(data.epoch(0, 1, start)) == whole[start:]


@pytest.mark.parametrize("kind", DATA)
def test_what_data_draw_leaves_the_generators_alone(kind):
    def drawn(between):
        torch.manual_seed(0), random.seed(0), np.random.seed(0)
        return [(torch.rand(1).item(), random.random(), np.random.rand()) for _ in zip(range(3), between, strict=False)]

    data = data_of(DATA[kind]())
    assert drawn(data.epoch(0, 0)) == drawn(range(3))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((torch.ones(3, 2), torch.ones(4)), r"the tensors have \[3, 4\] rows"),
        ((torch.ones(0, 2),), r"the tensors have \[0\] rows"),
        ((torch.ones(3, 2), None, 0), "batch_size is 0"),
        (({"x": torch.ones(3, 2)}, None, 2, "mask"), "there is no input 'mask'"),
    ],
)
def test_examples_that_are_none_are_refused(given, message):
    with pytest.raises(UsageError, match=message):
        Examples(*given)
