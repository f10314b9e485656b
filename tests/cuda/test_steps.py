"""Training steps on a GPU: its memory, its phases, its mixed precision, and its random numbers."""

import pytest
import torch

from perfsuite.errors import UnavailableError
from perfsuite.measure.memory import accelerator_peak_bytes
from perfsuite.measure.predicted import predicted
from perfsuite.measure.step_memory import observe
from perfsuite.measure.steps import Steps
from perfsuite.models.encoder import EncoderConfig, TransformerEncoder
from perfsuite.models.generators import kept_random_state, random_state, set_random_state
from perfsuite.phases import PHASES, PhaseClock
from perfsuite.protocols import Inputs
from perfsuite.recipes.values import parse_recipe
from tests.training.specs import LENGTH, encoder, inputs, spec, training

RECIPES = ["plain", "accumulate-3", "checkpoint", "bf16-amp", "fp16-amp", "clip", "one-cycle", "fp16-amp+accumulate-3"]


def on(device, recipe="plain", dropout=0.1):
    return training(recipe, model=encoder(dropout).to(device))


def wide(device):
    """Large enough for its tensors to fill most of the allocator's blocks."""
    config = EncoderConfig(
        vocab_size=30, d_model=512, num_heads=8, num_layers=4, d_ff=2048, dropout=0.1, max_seq_length=LENGTH,
        positional_encoding="learned", num_classes=5, norm_first=True,
    )  # fmt: skip
    return TransformerEncoder.from_config(config).to(device).eval()


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_step_gives_on_the_gpu_what_it_gives_on_the_cpu(cuda, recipe):
    made, reference = on(cuda, recipe, dropout=0.0), training(recipe, model=encoder(0.0))
    made.restore()
    found, expected = made.outputs(), reference.outputs()
    assert all(value.device.type == "cuda" for value in found.values())
    tolerance = {"rtol": 0.1, "atol": 0.02} if "amp" in recipe else {"rtol": 1e-3, "atol": 1e-4}
    for name, value in expected.items():
        torch.testing.assert_close(found[name].cpu().to(value.dtype), value, **tolerance)


@pytest.mark.parametrize("recipe", ["plain", "checkpoint", "fp16-amp"])
def test_a_step_that_draws_is_the_same_again(cuda, recipe):
    made = on(cuda, recipe)
    made.restore()
    first = made.outputs()
    made.restore()
    again = made.outputs()
    assert all(torch.equal(value, again[name]) for name, value in first.items())


@pytest.mark.parametrize("recipe", ["plain", "accumulate-3", "checkpoint", "bf16-amp", "fp16-amp"])
def test_a_prediction_is_what_the_step_shows(cuda, recipe):
    made = training(recipe, model=encoder().to(cuda), batch_size=6)
    found = predicted(encoder().to(cuda), spec(), made.batch, parse_recipe(recipe), 6)
    assert found == observe(made)


@pytest.mark.parametrize("recipe", ["plain", "accumulate-2", "checkpoint"])
def test_the_allocator_holds_what_is_predicted_and_little_more(cuda, recipe):
    model, size = wide(cuda), 256
    made = training(recipe, model=model, batch_size=size)
    shape = predicted(wide(cuda), spec(), made.batch, parse_recipe(recipe), size)
    made.once()
    elsewhere = torch.cuda.memory_allocated() - sum(map(_bytes, made.held)) - sum(
        _bytes(p.grad) for p in model.parameters() if p.grad is not None
    )  # fmt: skip
    peak = accelerator_peak_bytes(made.once, cuda) - elsewhere
    assert 0.95 * shape.peak_bytes <= peak <= 1.25 * shape.peak_bytes


def _bytes(tensor):
    return tensor.numel() * tensor.element_size()


def test_phases_are_the_step_and_wait_for_the_device(cuda):
    made = training(model=wide(cuda), batch_size=256)
    made.once()
    clocks = [PhaseClock(name) for name in PHASES]
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    made.once()
    end.record()
    end.synchronize()
    spent = [clock.read() for clock in clocks]
    assert all(seconds > 0 for seconds in spent)
    assert spent[1] > spent[0]  # a backward pass is two products for each of a forward pass
    assert 0.5 <= sum(spent) / (start.elapsed_time(end) / 1e3) <= 1.05


def test_a_step_that_overflows_is_skipped_and_the_scale_falls(cuda):
    model = encoder(0.0).to(cuda)
    made = training("fp16-amp", model=model)
    made.restore()
    before = made.step.scaler.get_scale()
    made.step.scaler._scale.fill_(2.0**40)  # overflows in fp16
    weights = [p.clone() for p in model.parameters()]
    made.step(made.batch)
    assert made.step.scaler.get_scale() < 2.0**40
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), weights, strict=True))
    made.restore()
    assert made.step.scaler.get_scale() == before


def test_a_run_that_resumes_is_one_that_was_not_interrupted(cuda):
    made = on(cuda)
    steps = Steps(made, made.restore)
    assert steps.resume_distance == 0
    assert steps.checkpoint_bytes > 3 * sum(_bytes(p) for p in made.step.model.parameters())


def test_random_numbers_of_the_device_are_kept(cuda):
    torch.rand(1, device=cuda)
    state = random_state()
    first = torch.rand(4, device=cuda)
    set_random_state(state)
    assert torch.equal(torch.rand(4, device=cuda), first)
    set_random_state(state)
    with kept_random_state():
        torch.rand(9, device=cuda)
    assert torch.equal(torch.rand(4, device=cuda), first)


def test_more_ranks_than_gpus_are_refused(cuda):
    ranks = torch.cuda.device_count() + 1
    with pytest.raises(UnavailableError, match=f"{ranks} ranks need {ranks} GPUs"):
        on(cuda, f"ddp-{ranks}")


def test_inputs_stay_where_the_model_is(cuda):
    assert Inputs.of(inputs(encoder(), 2, 0)).to(cuda).args[0].device.type == "cuda"
