"""The loss that Taylor importance is of: over the classes, wherever a model has them; else refused in one sentence."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from perfsuite import Structured, parse_technique
from perfsuite.errors import TechniqueError
from perfsuite.models.seeding import seeded
from perfsuite.protocols import Inputs
from perfsuite.techniques.calibrating import loss_of
from perfsuite.testing.contract import run


def drawn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def labels(classes, *shape):
    return torch.randint(0, classes, shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("output", "of_labels", "dim"),
    [
        ((4, 3), (4,), 1), ((4, 3), (4, 1), 1),
        ((2, 3, 5, 7), (2, 5, 7), 1), ((2, 7, 5, 7), (2, 5, 7), 1), ((2, 5, 5, 7), (2, 5, 7), 1),
        ((2, 3, 5), (2, 5), 1), ((2, 3, 5, 6, 7), (2, 5, 6, 7), 1), ((2, 3, 5), (10,), 1),
        ((2, 5, 3), (2, 5), 2), ((2, 5, 3), (10,), 2), ((2, 5, 7, 3), (2, 5, 7), 3),
    ],
)  # fmt: skip
def test_it_is_over_the_classes(output, of_labels, dim):
    logits, wanted = drawn(*output), labels(3, *of_labels)
    left = [size for at, size in enumerate(output) if at != dim]
    expected = F.cross_entropy(logits.movedim(dim, 1), wanted.reshape(left))
    assert torch.allclose(loss_of(nn.Identity(), Inputs((logits,), labels=wanted)), expected)


def test_labels_that_do_not_count_are_left_out():
    logits, wanted = drawn(2, 3, 4, 5), labels(3, 2, 4, 5)
    wanted[0] = -100
    found = loss_of(nn.Identity(), Inputs((logits,), labels=wanted))
    assert torch.allclose(found, F.cross_entropy(logits[1:], wanted[1:]))


@pytest.mark.parametrize(
    ("output", "of_labels", "message"),
    [
        ((2, 4, 4, 4), (2, 4, 4), "in two ways"), ((2, 4, 4), (2, 4), "in two ways"), ((2, 4, 4), (8,), "in two ways"),
        ((2, 3, 8, 8), (2, 4, 4), "in no way"), ((2, 3), (3,), "in no way"), ((4,), (4,), "in no way"),
        ((2, 3, 4, 5), (5, 4, 2), "in no way"),
    ],
)  # fmt: skip
def test_labels_that_do_not_fit_or_fit_in_two_ways_are_refused(output, of_labels, message):
    with pytest.raises(TechniqueError, match=rf"labels of shape .* fit an output of .* {message}"):
        loss_of(nn.Identity(), Inputs((drawn(*output),), labels=labels(2, *of_labels)))


@pytest.mark.parametrize("label", [3, 255, -1])
def test_a_label_beyond_the_classes_is_named(label):
    wanted = labels(3, 2, 4, 5)
    wanted[1, 2, 3] = label
    with pytest.raises(TechniqueError, match=f"a label is {label}, the model has 3 classes"):
        loss_of(nn.Identity(), Inputs((drawn(2, 3, 4, 5),), labels=wanted))


class Segmenter(nn.Module):
    """(N, 1, H, W) to logits (N, C, H, W)."""

    def __init__(self, classes):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, classes, 1))

    def forward(self, x):
        return self.layers(x)


def test_taylor_importance_of_a_segmenter_is_of_the_loss_over_classes():
    """As many classes as columns: over these, the loss is a number, too."""
    with seeded(0):
        model = Segmenter(6).eval()
    x, wanted = drawn(4, 1, 5, 6), labels(6, 4, 5, 6)
    reader = model.layers[2].weight
    (gradient,) = torch.autograd.grad(F.cross_entropy(model(x), wanted), reader)
    best = (reader * gradient).sum((0, 2, 3)).abs().argsort(descending=True)[:4].sort().values
    pruned = Structured(0.5, 0.5, "taylor").apply(model, data=[[x, wanted]])
    assert torch.equal(pruned.layers[0].weight, model.layers[0].weight[best])


def test_a_segmenter_goes_through_a_whole_technique():
    with seeded(0):
        model = Segmenter(3).eval()
    pruned = parse_technique("structured-50-taylor").apply(model, data=[[drawn(4, 1, 5, 6), labels(3, 4, 5, 6)]])
    assert run(pruned, Inputs((drawn(2, 1, 5, 6),))).shape == (2, 3, 5, 6)
