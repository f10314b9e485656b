from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from perfsuite.errors import UsageError
from perfsuite.protocols import Inputs
from perfsuite.training.losses import CrossEntropy, OwnLoss, labels_of, terms_of

LABELS = torch.tensor([[1, 2, -100], [0, -100, -100]])
BATCH = Inputs((torch.zeros(2, 3),), labels=LABELS)


def test_the_mean_is_over_labels_that_count():
    logits = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    counted = F.cross_entropy(torch.stack([logits[0, 0], logits[0, 1], logits[1, 0]]), torch.tensor([1, 2, 0]))
    assert torch.allclose(CrossEntropy()(logits, BATCH), counted)
    assert CrossEntropy().terms(BATCH) == 3


def test_a_causal_model_predicts_what_comes_next():
    logits = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(CrossEntropy(shift=True)(logits, BATCH), F.cross_entropy(logits[0, :1], torch.tensor([2])))
    assert CrossEntropy(shift=True).terms(BATCH) == 1


def test_half_precision_is_summed_in_float32():
    logits = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
    found = CrossEntropy()(logits, BATCH)
    assert found.dtype == torch.float32
    assert torch.equal(found, CrossEntropy()(logits.float(), BATCH))


@pytest.mark.parametrize(
    ("labels", "terms"), [(torch.tensor([1, 0]), 2), (LABELS, 3), (torch.zeros(2, 3), 2)], ids=["1d", "2d", "numbers"]
)
def test_terms_of_a_models_own_loss(labels, terms):
    assert terms_of(OwnLoss(), Inputs((torch.zeros(2, 3),), labels=labels)) == terms


def test_a_models_own_loss_is_found_by_name():
    loss = torch.tensor(2.0)
    assert OwnLoss()(SimpleNamespace(loss=loss), BATCH) is loss
    assert OwnLoss()({"loss": loss}, BATCH) is loss
    with pytest.raises(UsageError, match="the model has no loss: its output, a Tensor, holds none"):
        OwnLoss()(torch.zeros(2), BATCH)


def test_a_loss_that_says_nothing_is_over_examples():
    assert terms_of(lambda output, batch: output.mean(), BATCH) == 2


def test_labels_come_apart_or_as_an_argument():
    assert labels_of(BATCH) is LABELS
    assert labels_of(Inputs(kwargs={"labels": LABELS})) is LABELS
    with pytest.raises(UsageError, match="a batch has no labels") as raised:
        labels_of(Inputs((torch.zeros(2),)))
    assert "data=make" in raised.value.remedy
