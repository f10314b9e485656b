"""What each recipe changes of a step, and what it leaves as it is, bit for bit."""

import copy

import pytest
import torch
from torch import nn

from perfsuite.errors import PerfsuiteError, UnknownNameError, UsageError
from perfsuite.measure.distances import farthest
from perfsuite.models.seeding import seeded
from perfsuite.protocols import Built
from perfsuite.recipes.checkpoint import blocks
from perfsuite.recipes.values import parse_recipe
from perfsuite.registry import RECIPES
from perfsuite.training.plan import StepPlan
from tests.training.specs import classified, encoder, gradients, outcome, ragged, spec, tagger, training


def distance(ones, others):
    return farthest(ones, others, {name: value.dtype for name, value in others.items()})[1]


@pytest.mark.parametrize(
    "name",
    ["plain", "accumulate-4", "bf16-amp", "fp16-amp", "checkpoint", "checkpoint-matmul", "clip-0.5", "one-cycle"],
)
def test_a_name_is_what_its_recipe_calls_itself(name):
    assert parse_recipe(name).name == name


def test_recipes_compose_in_order_and_plain_changes_nothing():
    assert parse_recipe("accumulate-2+plain+bf16-amp").name == "accumulate-2+bf16-amp"
    assert parse_recipe("clip-1").name == "clip"


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("accumulate", UsageError, "recipe 'accumulate' needs a number"),
        ("accumulate-1", UsageError, "in 1 parts"),
        ("acumulate-4", UnknownNameError, "accumulate"),
        ("bf16-amp-3", UsageError, "takes no argument"),
        ("clip--1", UsageError, "recipe 'clip' does not take"),
        ("checkpoint+checkpoint-matmul", UsageError, "another of its kind"),
    ],
)
def test_what_is_no_recipe_is_refused(name, error, says):
    with pytest.raises(error, match=says):
        parse_recipe(name)


def test_every_recipe_is_registered_under_a_family_of_its_own():
    assert {"plain", "accumulate", "bf16-amp", "checkpoint", "one-cycle"} <= set(RECIPES.names())


def test_micro_batches_give_the_gradients_of_the_whole_batch_with_ragged_labels():
    of = spec(ragged)
    plain = outcome(training(model=tagger(), of=of))
    for parts in (2, 3, 7):
        found = outcome(training(f"accumulate-{parts}", tagger(), of))
        assert distance(gradients(found), gradients(plain)) < 50
        assert torch.allclose(found["loss"].double(), plain["loss"].double(), rtol=1e-6)


def test_accumulation_takes_less_memory_for_the_same_step():
    from perfsuite.measure.step_memory import observe

    whole, parts = (observe(training(name, encoder(0.0))) for name in ("plain", "accumulate-7"))
    assert parts.saved_bytes < whole.saved_bytes / 3
    assert parts.flops == whole.flops


def test_a_loss_that_is_no_mean_over_its_terms_is_not_accumulated():
    class Sum:
        def __call__(self, output, batch):
            return nn.functional.cross_entropy(output, batch.labels, reduction="sum")

    with pytest.raises(UsageError, match="the loss is no mean over its terms"):
        training("accumulate-2", of=spec(loss=Sum()))


class Normalized(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.embedding, self.norm, self.head = nn.Embedding(30, 4), norm, nn.Linear(24, 5)

    def forward(self, tokens):
        return self.head(self.norm(self.embedding(tokens).transpose(1, 2)).flatten(1))


def test_layers_that_look_at_the_whole_batch_are_refused_by_name():
    with pytest.raises(UsageError, match="'norm' normalizes over the batch"):
        training("accumulate-2", Normalized(nn.BatchNorm1d(4)))
    assert training("accumulate-2", Normalized(nn.InstanceNorm1d(4))).once().isfinite()


@pytest.mark.parametrize("recipe", ["checkpoint", "checkpoint-matmul"])
def test_checkpointing_changes_no_bit_with_dropout(recipe):
    plain, found = outcome(training()), outcome(training(recipe))
    assert found.keys() == plain.keys()
    assert all(torch.equal(found[name], plain[name]) for name in plain)


def test_checkpointing_under_autocast_changes_no_bit():
    plain, found = outcome(training("bf16-amp")), outcome(training("bf16-amp+checkpoint"))
    assert all(torch.equal(found[name], plain[name]) for name in plain)


def test_checkpointing_leaves_the_model_as_it_is():
    made = training("checkpoint")
    made.once()
    assert not [name for name, module in made.step.model.named_modules() if "forward" in module.__dict__]


def test_what_repeats_is_checkpointed_and_what_does_not_is_refused():
    assert [type(block).__name__ for block in blocks(encoder(layers=3))] == ["EncoderLayer"] * 3
    with pytest.raises(UsageError, match="has no blocks that repeat"):
        training("checkpoint", Normalized(nn.Identity()))


def test_clipping_bounds_the_norm_and_nothing_else():
    plain, found = outcome(training()), outcome(training("clip-0.01"))
    norm = torch.stack([value.norm() for value in gradients(found).values()]).norm()
    assert torch.isclose(norm, torch.tensor(0.01), rtol=1e-4)
    assert torch.equal(found["loss"], plain["loss"])
    unclipped = outcome(training("clip-1e6"))
    assert all(torch.equal(unclipped[name], plain[name]) for name in plain)


def test_clipping_looks_at_unscaled_gradients():
    plain, found = outcome(training("fp16-amp")), outcome(training("fp16-amp+clip-1e6"))
    assert all(torch.equal(found[name], plain[name]) for name in plain)


def test_mixed_precision_keeps_weights_and_moments_in_float32():
    made = training("bf16-amp")
    made.once()
    held = [*made.step.model.parameters(), *made.optimizer_state()]
    assert {tensor.dtype for tensor in held} == {torch.float32}
    assert {parameter.grad.dtype for parameter in made.step.model.parameters()} == {torch.float32}
    assert not torch.equal(outcome(made)["loss"], outcome(training())["loss"])


def test_a_skipped_step_changes_nothing_and_does_not_count():
    made = training("fp16-amp+one-cycle")
    weights, rate = [p.detach().clone() for p in made.step.model.parameters()], made.step.schedule.get_last_lr()
    made.step.scaler.load_state_dict(made.step.scaler.state_dict() | {"scale": 1e38})
    made.once()
    assert all(map(torch.equal, weights, made.step.model.parameters()))
    assert made.step.schedule.get_last_lr() == rate


def test_one_cycle_rises_once_and_falls_below_where_it_began():
    made = training("one-cycle")
    rates = [made.step.schedule.get_last_lr()[0]]
    made.run(19, after=lambda number, loss: rates.append(made.step.schedule.get_last_lr()[0]))
    top = rates.index(max(rates))
    assert max(rates) == pytest.approx(1e-3, rel=0.05)
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] < rates[0] / 100


def test_data_of_classes_accumulate_over_examples():
    plain, found = (outcome(training(name, encoder(0.0), spec(classified))) for name in ("plain", "accumulate-3"))
    assert distance(gradients(found), gradients(plain)) < 500


def test_a_prepared_copy_is_trained_on_the_numbers_of_integers():
    model = encoder()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    made = training("qat-int8", model)
    found = made.outputs()
    assert made.step.model is not model
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    plain = outcome(training())
    assert found.keys() == plain.keys()
    assert 100 < distance(gradients(found), gradients(plain)) < 1e7


def test_what_replaces_the_model_comes_first():
    one, other = (outcome(training(name)) for name in ("checkpoint+qat-int8", "qat-int8+checkpoint"))
    plain = outcome(training("qat-int8"))
    assert all(torch.equal(one[name], plain[name]) and torch.equal(other[name], plain[name]) for name in plain)
    assert observed("checkpoint+qat-int8").flops > observed("qat-int8").flops


def observed(name):
    from perfsuite.measure.step_memory import observe

    return observe(training(name))


@pytest.mark.parametrize("name", ["qat", "qat-bf16", "distill-2"])
def test_what_cannot_be_learned_is_refused(name):
    with pytest.raises(PerfsuiteError):
        training(name)


def test_a_student_learns_from_the_model_that_the_spec_builds():
    from perfsuite import DistillationLoss

    student = encoder(layers=1)
    made = training("distill-0.9", student)
    tokens, labels = made.batch.args[0], made.batch.labels
    loss = DistillationLoss(0.9)(student.eval()(tokens), encoder()(tokens).detach(), labels)
    assert torch.allclose(outcome(made, quiet=True)["loss"], loss.detach().reshape(1))


def test_a_teacher_is_held_and_never_trained():
    made = training("distill", encoder(layers=1))
    (teacher,) = made.plan.beside
    before = [p.detach().clone() for p in teacher.parameters()]
    made.run(2)
    assert all(map(torch.equal, before, teacher.parameters()))
    assert not teacher.training
    held = {id(tensor) for tensor in made.held}
    assert all(id(p) in held for p in teacher.parameters())


def test_distilling_accumulates_over_what_counts():
    from dataclasses import replace

    of = replace(spec(ragged), build=lambda seed: Built(tagger(), "a teacher"))
    with seeded(3):
        student = type(tagger())().double()
    plain = outcome(training("distill", copy.deepcopy(student), of), quiet=True)
    found = outcome(training("distill+accumulate-3", student, of), quiet=True)
    assert distance(gradients(found), gradients(plain)) < 50


def test_looking_at_the_loss_leaves_each_module_in_its_mode():
    model = encoder(0.0).train()
    model.layers[0].eval()
    before = [module.training for module in model.modules()]
    plan = StepPlan.plain(model, spec(), training().batch, 0)
    plan.by(parse_recipe("accumulate-3"))
    assert [module.training for module in model.modules()] == before
