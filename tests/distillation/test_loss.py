import math

import pytest
import torch
import torch.nn.functional as F

from perfsuite import DistillationLoss
from perfsuite.errors import UsageError


def answers(*shape, seed=0, ignored=0.3):
    """Logits of student and teacher, and labels some of which are ignored."""
    torch.manual_seed(seed)
    labels = torch.randint(0, shape[-1], shape[:-1])
    labels[torch.rand(shape[:-1]) < ignored] = -100
    return torch.randn(shape, requires_grad=True), torch.randn(shape), labels


def by_hand(student, teacher, labels, alpha, temperature):
    """In plain numbers, position by position."""
    soft, hard, terms = 0.0, 0.0, 0
    for s, t, label in zip(
        student.flatten(0, -2).tolist(), teacher.flatten(0, -2).tolist(), labels.flatten().tolist(), strict=True
    ):
        if label == -100:
            continue
        q, p = ([math.exp(x / temperature) for x in row] for row in (s, t))
        q, p = [x / sum(q) for x in q], [x / sum(p) for x in p]
        soft += sum(b * math.log(b / a) for a, b in zip(q, p, strict=True))
        hard -= math.log(math.exp(s[label]) / sum(map(math.exp, s)))
        terms += 1
    return alpha * temperature**2 * soft / terms + (1 - alpha) * hard / terms


@pytest.mark.parametrize("shape", [(6, 5), (3, 4, 7)])
@pytest.mark.parametrize(("alpha", "temperature"), [(0.5, 2.0), (0.9, 4.0), (1.0, 1.0), (0.0, 3.0)])
def test_it_is_the_formula(shape, alpha, temperature):
    student, teacher, labels = answers(*shape)
    found = DistillationLoss(alpha, temperature)(student, teacher, labels)
    assert found.item() == pytest.approx(by_hand(student, teacher, labels, alpha, temperature), rel=1e-5)


@pytest.mark.parametrize("seed", range(20))
def test_without_a_teacher_it_is_cross_entropy_bit_for_bit(seed):
    student, teacher, labels = answers(5, 9, 13, seed=seed)
    found = DistillationLoss(alpha=0.0)(student, teacher, labels)
    wanted = F.cross_entropy(student.flatten(0, 1), labels.flatten())
    assert torch.equal(found, wanted)
    assert torch.equal(*(torch.autograd.grad(loss, student)[0] for loss in (found, wanted)))


def test_with_the_teacher_alone_labels_only_say_what_is_ignored():
    student, teacher, labels = answers(6, 5)
    loss = DistillationLoss(alpha=1.0)
    others = torch.where(labels == -100, labels, (labels + 1) % 5)
    assert torch.equal(loss(student, teacher, labels), loss(student, teacher, others))
    assert torch.equal(loss(student, teacher), loss(student, teacher, labels.clamp(min=0)))


def test_a_mask_counts_like_ignored_labels():
    student, teacher, labels = answers(3, 4, 7)
    loss = DistillationLoss()
    full = labels.clamp(min=0)
    assert torch.equal(loss(student, teacher, full, labels != -100), loss(student, teacher, labels))
    assert torch.equal(loss(student, teacher, full, (labels != -100).long()), loss(student, teacher, labels))
    assert loss.terms(full, labels != -100) == loss.terms(labels) == int((labels != -100).sum())
    assert loss.terms(full) == 12


def test_parts_weighed_by_their_terms_are_the_whole():
    student, teacher, labels = answers(8, 5, 7, seed=3)
    loss = DistillationLoss()
    parts = [(loss(*part), loss.terms(part[2])) for part in zip(*(x.split(3) for x in (student, teacher, labels)))]  # noqa: B905  # torch splits all alike
    assert len({terms for _, terms in parts}) > 1
    together = sum(value * terms for value, terms in parts) / loss.terms(labels)
    assert together.item() == pytest.approx(loss(student, teacher, labels).item(), rel=1e-6)


def test_where_nothing_counts_it_is_zero_and_so_is_its_gradient():
    student, teacher, labels = answers(4, 5)
    found = DistillationLoss()(student, teacher, torch.full_like(labels, -100))
    (gradient,) = torch.autograd.grad(found, student)
    assert found.item() == 0
    assert not gradient.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    torch.manual_seed(0)
    teacher = torch.randn(64, 500).to(dtype)
    student = teacher.float() + 1e-3 * torch.randn(64, 500)
    found = DistillationLoss(1.0)(student.to(dtype), teacher)
    assert found.dtype == torch.float32
    assert found >= -1e-7
    assert torch.equal(found, DistillationLoss(1.0)(student.to(dtype).float(), teacher.float()))


def test_float64_stays_float64():
    student, teacher, labels = (x.double() if x.is_floating_point() else x for x in answers(4, 5))
    assert DistillationLoss()(student, teacher, labels).dtype == torch.float64


def test_classes_that_are_masked_with_minus_infinity_add_nothing():
    student, teacher, labels = answers(4, 5)
    masked = [torch.cat([x, torch.full((4, 2), -torch.inf)], dim=1) for x in (student, teacher)]
    loss = DistillationLoss()
    found = loss(*masked, labels)
    assert torch.equal(found, loss(student, teacher, labels))
    assert torch.autograd.grad(found, student)[0].isfinite().all()


def test_no_gradient_goes_to_the_teacher():
    student, teacher, labels = answers(4, 5)
    teacher.requires_grad_()
    DistillationLoss()(student, teacher, labels).backward()
    assert teacher.grad is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s, t, y: (s, torch.cat([t, t], 1), y), "the student has 5 classes and the teacher 10"),
        (lambda s, t, y: (s, t[:2], y), r"\(4, 5\) and \(2, 5\) are no two answers to one batch"),
        (lambda s, t, y: (s[0], t[0], y[0]), r"\(5,\) and \(5,\) are no two answers"),
        (lambda s, t, y: (s, t, None), "alpha 0.5 leaves a loss on labels, and there are none"),
        (lambda s, t, y: (s, t, y[:3]), r"labels of shape \(3,\) do not fit logits of \(4, 5\)"),
        (lambda s, t, y: (s, t, y, torch.ones(4, 5)), r"mask of shape \(4, 5\) do not fit"),
        (lambda s, t, y: (s, t, torch.full((4,), 7)), "labels go from 7 to 7, the student has 5 classes"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    with pytest.raises(UsageError, match=message):
        DistillationLoss()(*change(*answers(4, 5)))


@pytest.mark.parametrize(
    ("given", "message"),
    [({"alpha": 1.5}, "alpha is 1.5"), ({"alpha": math.nan}, "alpha is nan"), ({"temperature": 0}, "temperature is 0"),
     ({"temperature": math.inf}, "temperature is inf")],
)  # fmt: skip
def test_a_loss_that_means_nothing_is_refused(given, message):
    with pytest.raises(UsageError, match=message):
        DistillationLoss(**given)
