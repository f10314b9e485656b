import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from perfsuite import (
    AttentionLoss,
    DistillationConfig,
    DistillationLoss,
    Examples,
    HiddenStateLoss,
    ModelPruner,
    PruningConfig,
    convert_qat,
    distill,
    prepare_qat,
    provenance,
    student_of,
)
from perfsuite.distillation.teacher import answers_of
from perfsuite.errors import NonFiniteError, UsageError
from perfsuite.progress import watched
from perfsuite.protocols import Inputs
from perfsuite.testing.contract import state_bytes
from tests.distillation.small import batches, encoder, examples, teacher, tokens, weights


def test_a_student_comes_to_answer_as_its_teacher_does():
    master, student = teacher().eval(), encoder()
    data = examples(32)
    found = distill(master, student, data, epochs=15, learning_rate=2e-2, loss=DistillationLoss(alpha=1.0))
    assert found.student is student
    assert found.steps == len(found.losses) == 15 * 8
    assert found.losses[-1] < found.losses[0] / 4
    assert found.stopped == "all 120 steps were made"
    assert found.score is None


@pytest.mark.parametrize("data", [examples, batches, lambda: DataLoader(TensorDataset(*tokens()), 4, shuffle=True)])
def test_the_same_seed_trains_the_same_student_bit_for_bit(data):
    random = torch.get_rng_state()
    found = []
    for seed in (0, 0, 1):
        master, student, given = teacher(), encoder(), data()
        torch.set_rng_state(random)
        distill(master, student, given, epochs=2, seed=seed)
        assert torch.equal(torch.get_rng_state(), random)
        found.append(weights(student))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@pytest.mark.parametrize("hidden", [(), HiddenStateLoss({0: 1}), [AttentionLoss({0: 1})]])
@pytest.mark.parametrize("training", [True, False])
def test_the_teacher_is_untouched_and_every_mode_is_put_back(hidden, training):
    master, student = teacher().train(training), encoder().train(not training)
    student.dropout.eval()
    modes = [module.training for model in (master, student) for module in model.modules()]
    before = state_bytes(master)
    distill(master, student, examples(), hidden=hidden, steps=3)
    assert state_bytes(master) == before
    assert [module.training for model in (master, student) for module in model.modules()] == modes
    assert all(p.grad is None and not p.requires_grad for p in master.parameters())


def test_a_frozen_part_may_be_shared_and_a_trained_one_may_not():
    master, student = teacher(), encoder()
    student.embedding = master.embedding
    before = state_bytes(master)
    distill(master, student, examples(), steps=2)
    assert state_bytes(master) == before
    student.requires_grad_(True)
    with pytest.raises(UsageError, match=r"the student trains 'embedding\.weight', which is the teacher's, too"):
        distill(master, student, examples(), steps=2)


def test_running_statistics_may_not_be_shared():
    norm = nn.BatchNorm1d(4).requires_grad_(False)
    master, student = (nn.Sequential(nn.Linear(4, 4), norm, nn.Linear(4, 2)) for _ in range(2))
    with pytest.raises(UsageError, match="the student's '1' is the teacher's, too"):
        distill(master, student, [torch.ones(3, 4)], steps=1)


def test_layers_teach_too_and_their_projection_is_trained():
    master, student = teacher(), encoder(width=4)
    hidden = HiddenStateLoss({0: 1}, projection=nn.Linear(4, 8))
    before = weights(hidden)
    alone = distill(master, copy.deepcopy(student), examples(), steps=4)
    found = distill(master, student, examples(), hidden=hidden, steps=4)
    assert not torch.equal(weights(hidden), before)
    assert not torch.equal(weights(found.student), weights(alone.student))


class Counting(nn.Module):
    def __init__(self, module):
        super().__init__()
        self.module, self.asked = module, 0

    def forward(self, x):
        self.asked += len(x)
        return self.module(x)


@pytest.mark.parametrize(
    ("data", "options", "asked"),
    [
        (examples, {"epochs": 5}, 22),
        (batches, {"epochs": 5}, 22),
        (examples, {"epochs": 5, "ask_once": False}, 110),
        (examples, {"epochs": 1}, 22),
        (lambda: examples(24), {"steps": 2}, 8),
        (lambda: DataLoader(TensorDataset(*tokens()), 4), {"epochs": 5}, 110),
        (examples, {"epochs": 2, "hidden": HiddenStateLoss({0: "module.layers.1"})}, 44),
    ],
)
def test_the_teacher_is_asked_once_for_each_example_where_that_is_sound(data, options, asked):
    master = Counting(teacher())
    distill(master, encoder(), data(), **options)
    assert master.asked == asked


def test_kept_answers_are_those_that_the_teacher_gives():
    found = [distill(teacher(), encoder(dropout=0.0), examples(), epochs=3, ask_once=once) for once in (True, False)]
    assert found[0].losses == pytest.approx(found[1].losses, rel=1e-5)


def test_answers_that_are_known_are_not_asked_for_and_train_the_same_student():
    data, master = examples(24), Counting(teacher())
    answers = answers_of(master, data)
    assert answers.shape == (24, 3)
    assert master.asked == 24
    known = replace(data, answers=answers)
    found = distill(master, encoder(), known, epochs=2)
    assert master.asked == 24
    assert found.losses == distill(master, encoder(), data, epochs=2).losses
    distill(master, encoder(), known, steps=1, hidden=HiddenStateLoss({0: "module.layers.1"}))
    assert master.asked == 24 * 2 + 4
    with pytest.raises(UsageError, match=r"the tensors have \[3, 24\] rows"):
        replace(data, answers=answers[:3])


def test_answers_for_each_token_are_not_kept():
    torch.manual_seed(0)
    speller = nn.Sequential(nn.Embedding(20, 4), nn.Linear(4, 3))
    data = Examples(tokens()[0], torch.zeros(22, 6).long(), 4)
    assert distill(speller, copy.deepcopy(speller), data, epochs=2).steps == 12
    with pytest.raises(UsageError, match="gives no single row of classes for an example"):
        answers_of(speller, data)


@pytest.mark.parametrize(("accumulate", "steps"), [(1, 6), (2, 3), (4, 2), (9, 1)])
def test_batches_are_accumulated_and_what_is_left_makes_a_step(accumulate, steps):
    assert distill(teacher(), encoder(), batches(), accumulate=accumulate).steps == steps


def test_accumulated_batches_make_the_step_of_one_batch():
    """Also those that have fewer labels, and the losses between layers, which have positions of their own."""
    given, labels = tokens(8)
    padding = torch.arange(6) >= torch.randint(2, 7, (8, 1))
    labels[::3] = -100
    cut = [{"tokens": given[part], "key_padding_mask": padding[part], "labels": labels[part]}
           for part in (slice(0, 5), slice(5, 8))]  # fmt: skip
    joint = [{"tokens": given, "key_padding_mask": padding, "labels": labels}]
    found = []
    for data, accumulate in ((cut, 2), (joint, 1)):
        student = encoder(dropout=0.0).double()
        distill(
            teacher().double(), student, data, accumulate=accumulate, hidden=HiddenStateLoss({0: 1}), steps=2,
            optimizer=lambda p: torch.optim.SGD(p, lr=10.0), clip=math.inf, warmup=0.0,
        )  # fmt: skip
        found.append(weights(student))
    assert torch.allclose(*found, rtol=0, atol=1e-7)  # hidden states are compared in float32
    assert not torch.allclose(found[0], weights(encoder().double()), atol=1e-3)


@pytest.mark.parametrize("steps", [1, 2, 3, 10])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5, 1.0])
def test_the_schedule_is_one_cycle(steps, warmup):
    """As Smith and Topin have it, in the form that torch gives: from 1/25 to the peak, and to 1/250000 of it."""
    rates = []

    class Recorded(torch.optim.SGD):
        def step(self, closure=None):
            rates.append(self.param_groups[0]["lr"])
            super().step(closure)

    distill(teacher(), encoder(), batches(), steps=steps, warmup=warmup, optimizer=lambda p: Recorded(p, lr=1.0))
    assert len(rates) == steps
    top = warmup * steps - 1 if steps > 1 else -1.0  # one step is the last one

    def between(a, b, share):
        return b + (a - b) / 2 * (1 + math.cos(math.pi * share))

    for step, rate in enumerate(rates):
        rising = step <= top + 1e-6
        wanted = between(0.04, 1, step / top if top > 1e-6 else 0) if rising else between(
            1, 0.04 / 1e4, (step - top) / (steps - 1 - top)
        )  # fmt: skip
        assert rate == pytest.approx(wanted, abs=1e-6), step


def test_an_optimizer_keeps_its_momentum():
    made = []

    def sgd(parameters):
        made.append(torch.optim.SGD(parameters, lr=0.1, momentum=0.5))
        return made[-1]

    distill(teacher(), encoder(), batches(), steps=3, optimizer=sgd)
    assert made[0].param_groups[0]["momentum"] == 0.5


def test_training_ends_when_the_score_reaches_the_floor():
    scores = iter([0.1, 0.5, 0.9])
    found = distill(teacher(), encoder(), batches(), epochs=9, score=lambda model: next(scores), floor=0.5)
    assert found.scores == ((6, 0.1), (12, 0.5))
    assert found.stopped == "the score reached 0.5, the floor is 0.5"
    assert found.score == 0.5
    assert found.steps == 12


def test_a_score_is_taken_in_eval_mode_without_gradients_and_at_the_end():
    seen = []

    def score(model):
        seen.append((model.training, torch.is_grad_enabled()))
        torch.rand(3)
        return 0.0

    found = distill(teacher(), encoder(), batches(), steps=5, score=score, score_every=2)
    assert [step for step, _ in found.scores] == [2, 4, 5]
    assert seen == [(False, False)] * 3
    without = distill(teacher(), encoder(), batches(), steps=5)
    assert without.losses == found.losses


def test_a_loss_that_is_lost_is_told_with_its_step_and_the_first_parameter():
    given = batches()
    student, calls = encoder(dropout=0.0), []

    def loss(student_logits, teacher_logits, labels, mask):
        calls.append(1)
        return DistillationLoss()(student_logits, teacher_logits, labels) / (len(calls) != 4)

    before = []
    with pytest.raises(
        NonFiniteError, match=r"the loss is inf at step 4, and the first gradient .* 'embedding\.weight'"
    ):
        distill(teacher(), student, given, loss=loss, score=lambda m: before.append(weights(m)) or 0, score_every=1)
    assert torch.equal(weights(student), before[-1])


def test_progress_is_told():
    told = []
    with watched(lambda what, done, total: told.append((what, done, total))):
        distill(teacher(), encoder(), batches(), epochs=2)
    assert told == [("asking the teacher", n, 6) for n in range(1, 7)] + [("distilling", n, 12) for n in range(1, 13)]


def test_labels_are_not_needed_where_the_teacher_is_all():
    data = Examples(tokens()[0], batch_size=4)
    found = distill(teacher(), encoder(), data, loss=DistillationLoss(alpha=1.0), epochs=1)
    assert found.steps == 6
    with pytest.raises(UsageError, match=r"alpha 0\.5 leaves a loss on labels, and there are none"):
        distill(teacher(), encoder(), data)


def test_a_pruned_student_learns_from_the_unpruned_teacher_and_its_zeros_stay():
    master = encoder(2).eval()
    config = PruningConfig("iterative", sparsity=0.6, n_iterations=2)

    def tune(model):
        distill(master, model, examples(), steps=3, learning_rate=1e-2)

    found, plain = ModelPruner(config, fine_tune=tune).prune(master), ModelPruner(config).prune(master)
    zeros, expected = (sum(int((p == 0).sum()) for p in m.parameters() if p.dim() > 1) for m in (found, plain))
    assert zeros == expected > 0
    kept = weights(found) != 0
    assert not torch.equal(weights(found)[kept], weights(master)[kept])


@pytest.mark.parametrize("technique", ["int8-dynamic", "int8-static"])
def test_a_student_is_trained_for_integers_by_its_float_teacher(technique):
    master = encoder(2).eval()
    prepared = prepare_qat(master, technique, data=[Inputs((tokens()[0],))])
    before = weights(prepared)
    found = distill(master, prepared, examples(), steps=3, learning_rate=1e-2)
    assert not torch.equal(weights(prepared), before)
    assert len(found.losses) == 3
    converted = convert_qat(prepared.eval())
    assert [step.technique for step in provenance(converted)] == [technique]


@pytest.mark.filterwarnings("ignore::perfsuite.CoverageWarning")
def test_a_student_is_cut_from_its_teacher():
    master = encoder(4).eval().requires_grad_(False)
    student = student_of(master, layers=0.25, units=0.5)
    assert len(student.layers) == 1
    assert student.layers[0].feed_forward.expand.out_features == 8
    assert student.layers[0].attention.num_heads == 1
    assert all(p.requires_grad for p in student.parameters())
    assert not any(p.requires_grad for p in master.parameters())
    assert len(student_of(master, layers=1.0).layers) == 4
    whole = student_of(master, 1.0, 1.0)
    assert torch.equal(weights(whole), weights(master))
    assert whole is not master
    assert len(student_of(master, technique="depth-50+magnitude-50").layers) == 2
    assert distill(master, student, examples(), steps=2).steps == 2


@pytest.mark.parametrize("share", [0.0, 1.1, -1])
def test_a_student_keeps_a_share(share):
    for given in ({"layers": share}, {"units": share}):
        with pytest.raises(UsageError, match="the student is to keep"):
            student_of(encoder(), **given)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"student": encoder().requires_grad_(False)}, "no parameter of the TransformerEncoder requires a gradient"),
        ({"data": []}, "the list of batches is empty"),
        ({"data": iter(batches())}, "a list_iterator cannot be read in each epoch"),
        ({"data": torch.ones(3)}, "a Tensor cannot be read in each epoch"),
        ({"data": 3}, "an? int cannot be read"),
        ({"data": DataLoader([], 4)}, "the data hold no batch"),
        ({"data": DataLoader([], 4), "steps": 3}, "the data hold no batch"),
        ({"floor": 0.5}, "a floor needs a score"),
        ({"epochs": 0}, "epochs is 0"),
        ({"learning_rate": 0}, "learning_rate is 0"),
        ({"clip": math.nan}, "clip is nan"),
        ({"warmup": 2}, "warmup is 2"),
        ({"seed": -1}, "seed -1 is out of range"),
        ({"epoch": 1}, "unexpected keyword argument 'epoch'"),
        ({"student": encoder(classes=4)}, "the student has 4 classes and the teacher 3"),
        ({"hidden": HiddenStateLoss({0: 7})}, "has no layer 7"),
    ],
)
def test_what_cannot_be_trained_is_refused(change, message):
    given = {"teacher": teacher(), "student": encoder(), "data": batches()} | change
    with pytest.raises(UsageError, match=message):
        distill(**given)


def test_data_without_a_length_need_steps():
    class Endless:
        def __iter__(self):
            return iter(batches())

    assert distill(teacher(), encoder(), Endless(), steps=8).steps == 8
    with pytest.raises(UsageError, match="the data do not say how many batches they are"):
        distill(teacher(), encoder(), Endless())


def test_a_config_is_a_value():
    config = DistillationConfig(steps=2)
    assert distill(teacher(), encoder(), batches(), config, seed=1).steps == 2
    assert config == DistillationConfig(steps=2)
