"""The contract of distillation: the laws of its loss, and those of a step: what becomes of teacher and gradient.

That a distilled student is no worse than another takes seeds and a test: ``benchmarks/distillation.py``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import hypothesis.strategies as st
import torch
from hypothesis import given
from torch import Tensor, nn

from perfsuite.distillation.data import Batch
from perfsuite.distillation.step import DistillationStep, Loss
from perfsuite.distillation.teacher import ask
from perfsuite.models.seeding import seeded
from perfsuite.protocols import Inputs
from perfsuite.testing.contract import drawn, each, state_bytes
from perfsuite.testing.distillation_losses import DISTILLATION_LAWS, Answers, LossLaw, MakeLoss, answers

Gradients = Callable[[nn.Module, nn.Module, Sequence[Inputs], Loss], object]
"""(teacher, student, batches, loss): leaves in the student's ``grad`` that of the loss over all batches together."""
StepLaw = Callable[[Gradients, MakeLoss, "Pair"], None]
_CLASSES, _TOKENS, _IGNORED = 6, 20, -100


class Speller(nn.Module):
    """Token ids (B, T) to logits (B, T, C), with all that differs between the modes where it is a teacher."""

    def __init__(self, width: int, is_teacher: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(_TOKENS, width)
        self.norm = nn.BatchNorm1d(width) if is_teacher else nn.Identity()
        self.dropout = nn.Dropout(0.5 if is_teacher else 0.0)
        self.head = nn.Linear(width, _CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        features = self.norm(self.embedding(tokens).transpose(1, 2)).transpose(1, 2)  # (B, T, D)
        logits: Tensor = self.head(self.dropout(features))
        return logits


@dataclass(frozen=True)
class Pair:
    """A teacher in one of its modes, a student in train mode, both in float64, and batches with labels."""

    teacher: nn.Module
    student: nn.Module
    batches: tuple[Inputs, ...]

    def __repr__(self) -> str:
        counted = [int((batch.labels != _IGNORED).sum()) for batch in self.batches]
        return f"teacher.training={self.teacher.training}, batches with {counted} labels"

    def gradient(self, gradients: Gradients, loss: Loss) -> Tensor:
        """All gradients of a copy of the student, one after the other."""
        student = copy.deepcopy(self.student)
        with seeded(0):
            gradients(self.teacher, student, self.batches, loss)
        return torch.cat([p.grad.flatten() for p in student.parameters() if p.grad is not None])

    @property
    def joint(self) -> Pair:
        """The same with one batch in the place of several."""
        tokens, labels = (torch.cat(parts) for parts in ([b.args[0] for b in self.batches],
                                                         [b.labels for b in self.batches]))  # fmt: skip
        return replace(self, batches=(Inputs((tokens,), labels=labels),))


def leaves_the_teacher_untouched(gradients: Gradients, make: MakeLoss, pair: Pair) -> None:
    """Its bytes, buffers included, and the mode of each of its modules; and it has no gradients."""
    before, modes = state_bytes(pair.teacher), _modes(pair.teacher)
    pair.gradient(gradients, make(0.5, 2.0))
    assert state_bytes(pair.teacher) == before, "the teacher has other bytes now"
    assert _modes(pair.teacher) == modes, "train() or eval() mode of the teacher is not what it was"
    assert all(p.grad is None for p in pair.teacher.parameters()), "the teacher has gradients"


def asks_the_teacher_in_eval_mode(gradients: Gradients, make: MakeLoss, pair: Pair) -> None:
    """Every module of it: dropout in its answers would be learned."""
    seen = _Modes(pair.teacher)
    handle = pair.teacher.register_forward_pre_hook(seen)
    try:
        pair.gradient(gradients, make(0.5, 2.0))
    finally:
        handle.remove()
    assert seen.modes, "the teacher was not asked"
    assert True not in seen.modes, "the teacher was asked in train mode"


def keeps_the_modes_of_what_both_have(gradients: Gradients, make: MakeLoss, pair: Pair) -> None:
    """A frozen module of the student that is the teacher's, too, trains with the student: its dropout drops."""
    student = copy.deepcopy(pair.student)
    student.dropout = pair.teacher.get_submodule("dropout").train()
    seen = _Modes(student)
    handle = student.register_forward_pre_hook(seen)
    gradients(pair.teacher, student, pair.batches, make(0.5, 2.0))
    handle.remove()
    assert False not in seen.modes, "a module of the student was called in eval mode"
    assert student.dropout.training, "a module of the student is in eval mode now"


def learns_from_its_teacher(gradients: Gradients, make: MakeLoss, pair: Pair) -> None:
    """At alpha 1 another teacher gives another gradient, and one that agrees gives none."""
    other = copy.deepcopy(pair.teacher)
    with torch.no_grad():
        other.get_parameter("head.weight").neg_()
    loss = make(1.0, 2.0)
    one, turned = (replace(pair, teacher=each).gradient(gradients, loss) for each in (pair.teacher, other))
    assert (one - turned).abs().max() > 1e-9, "another teacher gives the same gradient"
    agreeing = replace(pair, teacher=copy.deepcopy(pair.student)).gradient(gradients, loss)
    assert agreeing.abs().max() < 1e-12, "a teacher that agrees with its student changes it"


def accumulates_as_one_batch(gradients: Gradients, make: MakeLoss, pair: Pair) -> None:
    """Over micro-batches with more and fewer labels; a mean of their means is another gradient."""
    found, wanted = (each.gradient(gradients, make(0.5, 2.0)) for each in (pair, pair.joint))
    apart = float((found - wanted).abs().max())
    assert apart <= 1e-12 * (1 + float(wanted.abs().max())), f"the gradient is {apart:.3g} off that of one batch"


STEP_LAWS: tuple[StepLaw, ...] = (
    leaves_the_teacher_untouched,
    asks_the_teacher_in_eval_mode,
    keeps_the_modes_of_what_both_have,
    learns_from_its_teacher,
    accumulates_as_one_batch,
)


def accumulated(teacher: nn.Module, student: nn.Module, batches: Sequence[Inputs], loss: Loss) -> None:
    """As ``perfsuite.distill`` computes the gradient of one step."""
    DistillationStep(student, ask(teacher), loss, {}).accumulate([Batch(batch) for batch in batches])


class DistillationContract:
    """The laws of a loss, and of how gradients come of it. Subclass it and set ``loss``.

    ``loss`` makes one of (alpha, temperature): ``loss(student_logits, teacher_logits, labels)``, a scalar; labels of
    -100 do not count. ``gradients`` is how a trainer of yours makes a step of several batches; by default ours does it.
    """

    loss: ClassVar[MakeLoss]
    gradients: ClassVar[Gradients] = staticmethod(accumulated)

    @each(DISTILLATION_LAWS)
    def test_loss_law(self, law: LossLaw) -> None:
        make = type(self).loss

        @drawn(20)
        @given(answers())
        def holds(found: Answers) -> None:
            law(make, found)

        holds()

    @each(STEP_LAWS)
    def test_step_law(self, law: StepLaw) -> None:
        kind = type(self)

        @drawn(10)
        @given(pairs())
        def holds(pair: Pair) -> None:
            law(kind.gradients, kind.loss, pair)

        holds()


@st.composite
def pairs(draw: st.DrawFn) -> Pair:
    """Small models, and two to four batches of which no two need to have as many labels that count."""
    sizes = draw(st.lists(st.integers(1, 3), min_size=2, max_size=4))
    length, share = draw(st.integers(2, 5)), draw(st.sampled_from([0.0, 0.3, 0.7]))
    with seeded(draw(st.integers(0, 2**16))):
        teacher, student = Speller(8, True).double(), Speller(4, False).double()
        batches = []
        for size in sizes:
            labels = torch.randint(0, _CLASSES, (size, length))
            labels.masked_fill_(torch.rand(size, length) < share, _IGNORED)
            batches.append(Inputs((torch.randint(0, _TOKENS, (size, length)),), labels=labels))
        batches[0].labels[0] = 1
    return Pair(teacher.train(draw(st.booleans())), student.train(), tuple(batches))


class _Modes:
    """The modes that all modules of a model were in when it was called."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.modes: set[bool] = set()

    def __call__(self, *given: Any) -> None:
        self.modes |= set(_modes(self.model))


def _modes(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]
