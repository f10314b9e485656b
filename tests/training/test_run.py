"""One step is repeated from one state; runs, their data and what cannot be trained."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from perfsuite.errors import NonFiniteError, UsageError
from perfsuite.protocols import Inputs
from tests.training.specs import BATCH, LENGTH, classified, encoder, inputs, spec, training


def state(made):
    step = made.step
    found = [*step.model.parameters(), *step.model.buffers(), *made.optimizer_state()]
    return [tensor.detach().clone() for tensor in found]


def same(ones, others):
    return len(ones) == len(others) and all(map(torch.equal, ones, others))


def test_a_step_is_that_of_plain_torch():
    made = training(of=spec(optimizer=lambda parameters: torch.optim.SGD(parameters, 0.1, momentum=0.9)))
    found = made.outputs()
    model = encoder().train()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    tokens, labels = next(iter(classified(model, BATCH, 0)))
    start = copy.deepcopy(model.state_dict())
    for _ in range(2):  # the first makes the optimizer's state, from the same weights
        model.load_state_dict(start)
        optimizer.zero_grad()
        torch.manual_seed(0)
        loss = F.cross_entropy(model(tokens), labels)
        loss.backward()
        optimizer.step()
    assert torch.equal(found["loss"], loss.detach().reshape(1))
    for name, parameter in model.named_parameters():
        assert torch.equal(found[f"gradient of {name}"], parameter.grad)
        assert torch.equal(found[f"updated {name}"], parameter)


def test_a_step_is_taken_back_whole():
    made = training("one-cycle+fp16-amp")
    before, rate, scale = state(made), made.step.schedule.get_last_lr(), made.step.scaler.state_dict()
    mode = made.step.model.training
    made.once()
    assert not same(state(made), before)
    made.restore()
    assert same(state(made), before)
    assert made.step.schedule.get_last_lr() == rate
    assert made.step.scaler.state_dict() == scale
    assert made.step.model.training == mode
    assert all(parameter.grad is None for parameter in made.step.model.parameters())


def test_a_repetition_is_the_same_again_and_leaves_torchs_generator_alone():
    made = training()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one = made.once()
    assert torch.equal(torch.get_rng_state(), before)
    made.restore()
    assert torch.equal(made.once(), one)


def test_a_run_goes_on_from_step_to_step_and_may_be_ended():
    made = training()
    losses = made.run(5)
    assert len({float(loss) for loss in losses}) == 5
    made.restore()
    assert torch.equal(torch.stack(made.run(5)), torch.stack(losses))
    made.restore()
    assert len(made.run(5, after=lambda number, loss: number == 2)) == 2


def test_data_start_over_where_they_end():
    tokens = [batch.args[0] for batch, _ in zip(training().batches(), range(5), strict=False)]
    assert torch.equal(tokens[0], tokens[3])
    assert not torch.equal(tokens[0], tokens[1])


def test_another_seed_has_other_data_and_draws_others():
    made = training()
    one = made.run(1)
    made.restore()
    assert not torch.equal(made.run(1, seed=1)[0], one[0])


def test_without_data_labelled_inputs_are_trained_on():
    def labelled(module, batch_size, seed):
        return Inputs((inputs(module, batch_size, seed),), labels=torch.zeros(batch_size, dtype=torch.long))

    made = training(of=spec(data=None, **{"loss": spec().loss}).__class__("t", None, labelled, loss=spec().loss))
    assert made.batch.args[0].shape == (BATCH, LENGTH)
    assert torch.isfinite(made.once())


def test_again_starts_where_this_one_did():
    made = training("checkpoint")
    made.restore()
    other = made.again()
    assert same(state(other), state(made))
    assert other.step.model is not made.step.model
    assert torch.equal(other.once(), made.once())


def test_frozen_parameters_stay_and_a_frozen_model_is_refused():
    model = encoder()
    model.embedding.requires_grad_(False)
    before = model.embedding.weight.detach().clone()
    made = training(model=model)
    made.once()
    assert torch.equal(model.embedding.weight, before)
    with pytest.raises(UsageError, match="no parameter of the TransformerEncoder is trained: all of them are frozen"):
        training(model=encoder().requires_grad_(False))


def test_a_model_without_a_loss_is_refused():
    with pytest.raises(UsageError, match="the model has no loss"):
        training(of=spec(loss=None))


def test_data_without_labels_are_refused():
    with pytest.raises(UsageError, match="a batch has no labels"):
        training(of=spec(data=lambda module, size, seed: [inputs(module, size, seed)]))


def test_data_without_a_batch_of_that_size_are_refused():
    with pytest.raises(UsageError, match="the data of 'tiny' hold no batch of 7"):
        training(of=spec(data=lambda module, size, seed: []))


@pytest.mark.parametrize(
    ("loss", "says"),
    [
        (lambda output, batch: output, "the loss is a tensor of shape"),
        (lambda output, batch: 1.0, "the loss is a float"),
        (lambda output, batch: output.detach().mean(), "does not depend on any weight"),
    ],
)
def test_what_is_no_loss_is_refused(loss, says):
    with pytest.raises(UsageError, match=says):
        training(of=spec(loss=loss))


class Broken(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(LENGTH, 5), nn.Linear(5, 5)

    def forward(self, x):
        return self.second(self.first(x.float())) * float("nan")


def test_a_loss_that_is_nan_is_told_with_the_step_and_the_first_gradient():
    with pytest.raises(NonFiniteError, match=r"the loss is nan at step 1; .* 'first.weight'"):
        training(model=Broken().eval())


def test_a_loss_that_becomes_nan_is_told_with_its_step():
    def overflowing(parameters):
        return torch.optim.SGD(parameters, 1e38)

    made = training(of=spec(optimizer=overflowing))
    with pytest.raises(NonFiniteError, match=r"the loss is nan at step [23]"):
        made.run(4)
