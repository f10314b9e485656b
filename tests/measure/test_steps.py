"""What is observed of a training step: memory by kind, FLOPs, distances, runs."""

import pytest
import torch

from perfsuite.case import Case
from perfsuite.errors import OutputError, UsageError
from perfsuite.measure.facts import explanations_of, facts_of, relations_of
from perfsuite.measure.step_memory import observe
from perfsuite.measure.subject import Subject
from perfsuite.protocols import Inputs
from perfsuite.registry import METRICS
from perfsuite.runtimes.eager import RUNTIME
from perfsuite.workloads.train import WORKLOAD, by_recipe
from tests.training.specs import BATCH, encoder, inputs, spec, tagger, training


def subject(recipe="plain", model=None, of=None):
    model = model or encoder()
    workload = by_recipe(WORKLOAD, recipe, 0)
    given = Inputs.of(inputs(model, BATCH, 0))
    cpu = torch.device("cpu")
    return Subject.on_runtime(model, RUNTIME, workload, of or spec(), given, label=recipe, device=cpu)


def metrics(*names):
    return [METRICS.get(name) for name in names]


def test_memory_by_kind_adds_up_to_the_peak_that_is_traced():
    made = subject()
    found = made.steps.memory
    assert found.peak_bytes == made.trace.peak_bytes
    weights = sum(p.numel() * 4 for p in encoder().parameters())
    buffers = sum(b.numel() * b.element_size() for b in encoder().buffers())
    assert found.at_peak["parameter"] == weights + buffers
    assert found.at_peak["optimizer"] == 2 * weights + 4 * len(list(encoder().parameters()))
    assert found.flops == made.trace.flops


def test_gradients_are_all_there_at_the_peak_of_an_accumulated_step():
    found = observe(training("accumulate-7"))
    assert found.at_peak["gradient"] >= 0.8 * sum(p.numel() * 4 for p in encoder().parameters())


def test_a_backward_pass_is_twice_a_forward_pass():
    found = observe(training(model=tagger(torch.float32), of=spec(loss=mean)))
    assert found.flops == pytest.approx(3 * found.forward_flops, rel=0.01)


def mean(output, batch):
    return output.square().mean()


def test_checkpointing_computes_the_forward_pass_twice_and_saves_less():
    plain, found = subject(), subject("checkpoint")
    assert found.steps.recompute(plain.steps) == pytest.approx(2.0, abs=0.05)
    assert found.steps.memory.saved_bytes < plain.steps.memory.saved_bytes / 3
    kept = subject("checkpoint-matmul")
    assert kept.steps.recompute(plain.steps) == 1.0
    assert found.steps.memory.saved_bytes < kept.steps.memory.saved_bytes < plain.steps.memory.saved_bytes


def test_one_process_sends_nothing():
    found = observe(training())
    assert (found.collectives, found.collective_bytes) == ({}, 0)


def test_distances_of_the_plain_step_from_itself_are_zero():
    one, other = subject(), subject()
    found, missing = relations_of(one, other, metrics("loss_distance", "gradient_distance", "weight_distance"))
    assert (set(found.values()), missing) == ({0.0}, {})
    assert explanations_of(one, other, metrics("gradient_distance")) == {}


def test_a_difference_is_said_with_its_phase_and_parameter():
    one, other = subject("clip-0.01"), subject()
    words = explanations_of(one, other, metrics("weight_distance"))["weight_distance"]
    assert words.startswith("first differs in the backward phase: gradient of ")
    assert explanations_of(subject("bf16-amp"), other, metrics("loss_distance"))["loss_distance"].startswith(
        "first differs in the forward phase: loss by "
    )


def test_micro_batches_draw_other_numbers_so_nothing_is_drawn_where_they_are_compared():
    one, other = subject("accumulate-3"), subject()
    found, _ = relations_of(one, other, metrics("gradient_distance", "trajectory_distance"))
    assert found["gradient_distance"] < 500
    assert found["trajectory_distance"] < 5000


def test_another_model_is_not_compared():
    with pytest.raises(OutputError, match="trains other parameters"):
        subject(model=encoder(layers=1)).steps.distance(subject().steps, "weight")


def test_a_run_is_compared_step_by_step():
    one, other = subject("one-cycle"), subject()
    assert relations_of(subject(), other, metrics("trajectory_distance"))[0] == {"trajectory_distance": 0.0}
    assert one.steps.trajectory_distance(other.steps) > 1e3
    assert one.steps.first_loss_that_differs(other.steps).startswith("first differs at step 2: ")


def test_facts_of_a_training_step():
    facts = facts_of(subject(), metrics("loss", "gradient_norm", "weight_norm", "optimizer_steps", "skipped_steps"))
    assert facts.exact["optimizer_steps"] == 1
    assert facts.exact["skipped_steps"] == 0
    assert facts.exact["loss"] == pytest.approx(1.6, abs=0.5)
    assert facts.missing == {}


def test_steps_to_a_target_are_counted_for_each_seed():
    made = subject(of=spec(target_loss=1.5))
    scores = made.steps.to_target
    assert len(scores.values) == 8
    assert all(1 <= value <= 40 for value in scores.values)
    assert subject(of=spec(target_loss=-1.0)).steps.to_target.values == (40.0,) * 8
    assert made.why_missing(METRICS.get("steps_to_target").probe.needs) == ""
    assert "target_loss" in subject().why_missing(METRICS.get("steps_to_target").probe.needs)


def test_what_is_no_training_step_has_no_steps():
    made = Subject.of_model(encoder(), Inputs.of(inputs(None, 2, 0)), "a model")
    with pytest.raises(UsageError, match="a model is no training step"):
        _ = made.steps
    assert facts_of(made, metrics("loss", "activation_memory")).exact == {}


def test_a_recipe_is_part_of_the_key():
    case = Case(model="m", workload="train", recipe="bf16-amp+checkpoint", batch_size=8)
    assert case.key == "m/fp32/cpu/b8/train:bf16-amp+checkpoint"
    assert Case.parse(case.key) == case
    assert case.parameters["recipe"] == "bf16-amp+checkpoint"


@pytest.mark.parametrize("recipe", ["plain", "one-cycle+fp16-amp"])
def test_a_run_that_was_resumed_ends_where_one_that_was_not_does(recipe):
    made = subject(recipe)
    assert made.steps.resume_distance == 0.0
    weights = sum(p.numel() * 4 for p in encoder().parameters())
    assert 3 * weights < made.steps.checkpoint_bytes < 4 * weights + 50_000


def test_a_resumed_run_without_its_schedule_ends_elsewhere(monkeypatch):
    from perfsuite.measure import steps

    kept = steps.load_checkpoint
    monkeypatch.setattr(steps, "load_checkpoint", lambda path, model, optimizer, *_: kept(path, model, optimizer))
    monkeypatch.setattr(
        steps, "_save", lambda path, made: steps.save_checkpoint(path, made.step.model, made.step.optimizer)
    )
    assert subject("one-cycle").steps.resume_distance > 100
