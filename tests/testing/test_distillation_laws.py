"""Each law of distillation is seen to catch the fault that it is about."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import Phase, given, settings

from perfsuite import DistillationLoss
from perfsuite.techniques.common import main_output
from perfsuite.testing import (
    DISTILLATION_LAWS,
    DISTILLATION_STEP_LAWS,
    DistillationContract,
    distillation,
    distillation_losses,
)
from perfsuite.testing.contract import drawn
from perfsuite.testing.distillation import accumulated


class TestOurs(DistillationContract):
    loss = DistillationLoss


class Book:
    """The loss as books have it, in parts, of which each fault changes one."""

    def __init__(self, alpha, temperature):
        self.alpha, self.temperature = alpha, temperature

    def __call__(self, student, teacher, labels, mask=None):
        rows, wanted, labels = self.wide(student).flatten(0, -2), self.wide(teacher).flatten(0, -2), labels.flatten()
        kept = self.kept(labels)
        soft = self.soft(rows[kept], self.target(rows, wanted)[kept]) * self.temperature**2
        return self.mixed(self.shaped(soft, kept, student), F.cross_entropy(rows, labels), rows)

    def wide(self, logits):
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def kept(self, labels):
        return labels != -100

    def target(self, student, teacher):
        return teacher.detach()

    def soft(self, student, teacher):
        q, p = (F.log_softmax(logits / self.temperature, -1) for logits in (student, teacher))
        return self.divergence(q, p)

    def divergence(self, q, p):
        return F.kl_div(q, p, log_target=True, reduction="batchmean")

    def shaped(self, soft, kept, student):
        return soft

    def mixed(self, soft, hard, rows):
        return self.alpha * soft + (1 - self.alpha) * hard


def fault(**parts):
    return type("Fault", (Book,), parts)


def added(extra):
    """Something that has no place in the loss, in its soft part."""
    return fault(mixed=lambda self, soft, hard, rows: Book.mixed(self, soft + extra(rows, hard), hard, rows))


LOSS_FAULTS = {
    "is_cross_entropy_at_alpha_0": fault(mixed=lambda self, soft, hard, _: self.alpha * hard + (1 - self.alpha) * soft),
    "ignores_what_labels_say_at_alpha_1": added(lambda rows, hard: hard / 10),
    "weighs_the_two_by_alpha": fault(mixed=lambda self, soft, hard, _: self.alpha * soft + (1 - self.alpha**2) * hard),
    "is_zero_where_the_student_is_the_teacher": added(lambda rows, hard: rows.square().mean()),
    "learns_from_the_teacher": fault(target=lambda self, student, teacher: student.detach()),
    "is_never_negative": fault(wide=lambda self, logits: logits),
    "computes_half_precision_in_float32": fault(wide=lambda self, logits: logits),
    "tends_to_the_difference_of_logits": fault(shaped=lambda self, soft, *_: soft / self.temperature**2),
    "does_not_see_what_is_added_to_all_classes": added(lambda rows, hard: rows.mean()),
    "does_not_see_the_order_of_classes": added(lambda rows, hard: rows[:, 0].square().mean()),
    "does_not_see_the_order_of_examples": added(lambda rows, hard: rows[0].square().mean()),
    "does_not_see_classes_without_probability": fault(divergence=lambda self, q, p: F.kl_div(q, p.exp())),
    "does_not_see_how_positions_are_shaped": fault(
        shaped=lambda self, soft, kept, student: soft * kept.sum() / student.shape[0]
    ),
    "leaves_ignored_positions_out": fault(kept=lambda self, labels: torch.ones_like(labels, dtype=torch.bool)),
    "sends_no_gradient_to_the_teacher": fault(target=lambda self, student, teacher: teacher),
}
WITHOUT_SHRINKING = settings(drawn(20), phases=[Phase.generate])


def check_loss(law, make):
    @WITHOUT_SHRINKING
    @given(distillation_losses.answers())
    def holds(answers):
        law(make, answers)

    holds()


@pytest.mark.filterwarnings("ignore:reduction")  # the mean over classes is the fault
@pytest.mark.parametrize("law", DISTILLATION_LAWS, ids=lambda law: law.__name__)
def test_each_fault_of_a_loss_breaks_its_law(law):
    check_loss(law, Book)
    with pytest.raises(AssertionError):
        check_loss(law, LOSS_FAULTS[law.__name__])


def each_batch(teacher, student, batches, loss, weigh):
    for batch in batches:
        with torch.no_grad():
            wanted = main_output(teacher(*batch.args))
        (loss(student(*batch.args), wanted, batch.labels) * weigh(batch, batches)).backward()


def mean_of_means(teacher, student, batches, loss):
    with eval_once(teacher):
        each_batch(teacher, student, batches, loss, lambda batch, all_: 1 / len(all_))


class eval_once:  # noqa: N801  # reads like the function that it takes the place of
    def __init__(self, teacher, back=True):
        self.teacher, self.back = teacher, back

    def __enter__(self):
        self.modes = {module: module.training for module in self.teacher.modules()}
        self.teacher.eval()

    def __exit__(self, *_):
        for module, mode in self.modes.items():
            module.training = mode if self.back else False


def in_train_mode(teacher, student, batches, loss):
    state = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    mode = teacher.training
    teacher.train()
    each_batch(teacher, student, batches, loss, weighed)
    teacher.load_state_dict(state)
    teacher.train(mode)


def weighed(batch, batches):
    terms = [int((each.labels != -100).sum()) for each in batches]
    return int((batch.labels != -100).sum()) / max(sum(terms), 1)


def left_in_eval_mode(teacher, student, batches, loss):
    with eval_once(teacher, back=False):
        each_batch(teacher, student, batches, loss, weighed)


def eval_all_along(teacher, student, batches, loss):
    with eval_once(teacher):
        each_batch(teacher, student, batches, loss, weighed)


def own_answers(teacher, student, batches, loss):
    accumulated(student, student, batches, loss)
    with eval_once(teacher):
        teacher(*batches[0].args)


STEP_FAULTS = {
    "leaves_the_teacher_untouched": left_in_eval_mode,
    "asks_the_teacher_in_eval_mode": in_train_mode,
    "keeps_the_modes_of_what_both_have": eval_all_along,
    "learns_from_its_teacher": own_answers,
    "accumulates_as_one_batch": mean_of_means,
}


def check(law, gradients):
    @WITHOUT_SHRINKING
    @given(distillation.pairs())
    def holds(pair):
        law(gradients, DistillationLoss, pair)

    holds()


@pytest.mark.parametrize("law", DISTILLATION_STEP_LAWS, ids=lambda law: law.__name__)
def test_each_fault_of_a_step_breaks_its_law(law):
    check(law, accumulated)
    with pytest.raises(AssertionError):
        check(law, STEP_FAULTS[law.__name__])
