"""The laws of a loss of distillation: what it is, whatever the logits and labels are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import hypothesis.strategies as st
import torch
import torch.nn.functional as F
from torch import Tensor

from perfsuite.distillation.step import Loss
from perfsuite.models.seeding import seeded

MakeLoss = Callable[[float, float], Loss]
"""(alpha, temperature) to a loss: ``loss(student_logits, teacher_logits, labels)``."""
LossLaw = Callable[[MakeLoss, "Answers"], None]
_IGNORED = -100
_CLOSE = 1e-10  # of float64, relative to the largest number


@dataclass(frozen=True)
class Answers:
    """Drawn logits (B, C) or (B, T, C) of a student and its teacher in float64, and labels, some of them ignored."""

    student: Tensor
    teacher: Tensor
    labels: Tensor
    alpha: float
    temperature: float

    def __repr__(self) -> str:
        return f"logits {tuple(self.student.shape)} alpha={self.alpha} temperature={self.temperature}"

    def loss(self, make: MakeLoss, alpha: float | None = None) -> tuple[Tensor, Tensor]:
        """Its value, and its gradient for the student's logits."""
        student = self.student.detach().requires_grad_()
        value = make(self.alpha if alpha is None else alpha, self.temperature)(student, self.teacher, self.labels)
        (gradient,) = torch.autograd.grad(value, student)
        return value.detach(), gradient

    def on(self, change: Callable[[Tensor], Tensor]) -> Answers:
        """The same with both models' logits changed."""
        return replace(self, student=change(self.student), teacher=change(self.teacher))


def is_cross_entropy_at_alpha_0(make: MakeLoss, answers: Answers) -> None:
    """Value and gradient; the teacher does not matter. Where alpha weighs the labels, this is seen first."""
    student = answers.student.detach().requires_grad_()
    wanted = F.cross_entropy(student.flatten(0, -2), answers.labels.flatten(), ignore_index=_IGNORED)
    _same(answers.loss(make, alpha=0.0), (wanted.detach(), torch.autograd.grad(wanted, student)[0]), "cross entropy")


def ignores_what_labels_say_at_alpha_1(make: MakeLoss, answers: Answers) -> None:
    other = torch.where(answers.labels == _IGNORED, _IGNORED, (answers.labels + 1) % answers.student.shape[-1])
    _same(answers.loss(make, 1.0), replace(answers, labels=other).loss(make, 1.0), "the loss with other labels")


def weighs_the_two_by_alpha(make: MakeLoss, answers: Answers) -> None:
    """Value and gradient lie on the straight line between both ends."""
    hard, soft = answers.loss(make, alpha=0.0), answers.loss(make, alpha=1.0)
    wanted = tuple((1 - answers.alpha) * h + answers.alpha * s for h, s in zip(hard, soft, strict=True))
    _same(answers.loss(make), wanted, "(1 - alpha) * hard + alpha * soft")


def is_zero_where_the_student_is_the_teacher(make: MakeLoss, answers: Answers) -> None:
    value, gradient = replace(answers, student=answers.teacher).loss(make, alpha=1.0)
    _same((value, gradient), (torch.zeros_like(value), torch.zeros_like(gradient)), "zero")


def learns_from_the_teacher(make: MakeLoss, answers: Answers) -> None:
    """Another teacher gives another gradient: the student's own answers are no target."""
    turned = replace(answers, teacher=answers.teacher.roll(1, dims=-1) + torch.arange(answers.teacher.shape[-1]))
    one, other = (each.loss(make, alpha=1.0)[1] for each in (answers, turned))
    assert (one - other).abs().max() > _CLOSE, "another teacher gives the same gradient"


def is_never_negative(make: MakeLoss, answers: Answers) -> None:
    """In every dtype, also where the student is nearly there; float32's own rounding is allowed."""
    loss = make(1.0, answers.temperature)
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        teacher = answers.teacher.to(dtype)
        student = (answers.teacher + 1e-3 * answers.student).to(dtype)
        for one, other in ((student, teacher), (student.float(), teacher)):
            value = float(loss(one, other, answers.labels))
            assert value >= -1e-6 * answers.temperature**2, f"KL of {one.dtype} and {other.dtype} logits is {value}"


def computes_half_precision_in_float32(make: MakeLoss, answers: Answers) -> None:
    for dtype in (torch.float16, torch.bfloat16):
        half = answers.on(lambda logits, dtype=dtype: logits.to(dtype))  # type: ignore[misc]  # bound at once
        found, wanted = (float(each.loss(make)[0]) for each in (half, half.on(Tensor.float)))
        assert abs(found - wanted) <= 1e-5 * max(1.0, abs(wanted)), f"{dtype} logits give {found}, in float32 {wanted}"


def tends_to_the_difference_of_logits(make: MakeLoss, answers: Answers) -> None:
    """At a high temperature the gradient of T^2 KL is the centred difference of logits, over classes and positions."""
    hot = replace(answers, temperature=1e5)
    difference = hot.student - hot.teacher
    counted = (hot.labels != _IGNORED).unsqueeze(-1)
    wanted = (difference - difference.mean(-1, keepdim=True)) * counted / (counted.sum() * difference.shape[-1])
    gradient = hot.loss(make, alpha=1.0)[1]
    assert (gradient - wanted).abs().max() <= 1e-3 * wanted.abs().max() + 1e-9, "T^2 does not balance the temperature"


def does_not_see_what_is_added_to_all_classes(make: MakeLoss, answers: Answers) -> None:
    moved = replace(answers, student=answers.student + 3.0, teacher=answers.teacher - 5.0)
    _same(moved.loss(make), answers.loss(make), "the loss before a constant was added to the logits")


def does_not_see_the_order_of_classes(make: MakeLoss, answers: Answers) -> None:
    classes = answers.student.shape[-1]
    labels = torch.where(answers.labels == _IGNORED, _IGNORED, classes - 1 - answers.labels)
    value, gradient = replace(answers.on(lambda logits: logits.flip(-1)), labels=labels).loss(make)
    _same((value, gradient.flip(-1)), answers.loss(make), "the loss with classes in another order")


def does_not_see_the_order_of_examples(make: MakeLoss, answers: Answers) -> None:
    value, gradient = replace(answers.on(lambda logits: logits.flip(0)), labels=answers.labels.flip(0)).loss(make)
    _same((value, gradient.flip(0)), answers.loss(make), "the loss with examples in another order")


def does_not_see_classes_without_probability(make: MakeLoss, answers: Answers) -> None:
    """Appended to both models: a mean over classes sees them."""
    value, gradient = answers.on(lambda logits: F.pad(logits, (0, 7), value=-1e9)).loss(make)
    wanted = answers.loss(make)
    _same((value, gradient[..., :-7]), wanted, "the loss without classes of probability 0")


def does_not_see_how_positions_are_shaped(make: MakeLoss, answers: Answers) -> None:
    """(B, T, C) is (B * T, C): "batchmean" divides by B alone."""
    flat = replace(answers.on(lambda logits: logits.flatten(0, -2)), labels=answers.labels.flatten())
    value, gradient = flat.loss(make)
    _same((value, gradient.view_as(answers.student)), answers.loss(make), "the loss of (B, T, C)")


def leaves_ignored_positions_out(make: MakeLoss, answers: Answers) -> None:
    """Of both losses: what the models say there changes nothing."""
    ignored = (answers.labels == _IGNORED).unsqueeze(-1)
    other = answers.on(lambda logits: torch.where(ignored, logits.roll(1, dims=-1) * 2 + 1, logits))
    _same(other.loss(make), answers.loss(make), "the loss with other logits where labels are ignored")


def sends_no_gradient_to_the_teacher(make: MakeLoss, answers: Answers) -> None:
    student, teacher = (logits.detach().requires_grad_() for logits in (answers.student, answers.teacher))
    make(answers.alpha, answers.temperature)(student, teacher, answers.labels).backward()
    assert teacher.grad is None, "the teacher's logits have a gradient"


DISTILLATION_LAWS: tuple[LossLaw, ...] = (
    is_cross_entropy_at_alpha_0,
    ignores_what_labels_say_at_alpha_1,
    weighs_the_two_by_alpha,
    is_zero_where_the_student_is_the_teacher,
    learns_from_the_teacher,
    is_never_negative,
    computes_half_precision_in_float32,
    tends_to_the_difference_of_logits,
    does_not_see_what_is_added_to_all_classes,
    does_not_see_the_order_of_classes,
    does_not_see_the_order_of_examples,
    does_not_see_classes_without_probability,
    does_not_see_how_positions_are_shaped,
    leaves_ignored_positions_out,
    sends_no_gradient_to_the_teacher,
)


def _same(found: tuple[Tensor, ...], wanted: tuple[Tensor, ...], what: str) -> None:
    for name, one, other in zip(("value", "gradient"), found, wanted, strict=True):
        bound = _CLOSE * (1 + float(other.abs().max()))
        assert float((one - other).abs().max()) <= bound, f"the {name} is not that of {what}"


@st.composite
def answers(draw: st.DrawFn) -> Answers:
    """Logits of a few positions and classes; at least one position counts, and not all need to."""
    classes, rows, tokens = draw(st.integers(2, 9)), draw(st.integers(1, 4)), draw(st.sampled_from([0, 1, 2, 5]))
    shape = (rows, tokens, classes) if tokens else (rows, classes)
    scale, alpha = draw(st.sampled_from([0.1, 1.0, 5.0])), draw(st.floats(0.1, 0.9))
    temperature = draw(st.sampled_from([0.5, 1.0, 2.0, 4.0]))
    with seeded(draw(st.integers(0, 2**16))):
        student, teacher = (scale * torch.randn(shape, dtype=torch.float64) for _ in range(2))
        labels = torch.randint(0, classes, shape[:-1])
        labels.masked_fill_(torch.rand(shape[:-1]) < draw(st.sampled_from([0.0, 0.5])), _IGNORED)
        labels.view(-1)[0] = labels.view(-1)[0].clamp(min=0)
    return Answers(student, teacher, labels, alpha, temperature)
