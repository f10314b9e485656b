"""Pruning step by step: the cubic schedule, zeros that stay, rounds that hold a floor or end."""

import copy
import itertools

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from perfsuite import Magnitude, Structured
from perfsuite.errors import TechniqueError, UsageError
from perfsuite.models.seeding import seeded
from perfsuite.progress import watched
from perfsuite.techniques.pruning.groups import find_groups
from perfsuite.techniques.pruning.masks import keep_zeros
from perfsuite.techniques.pruning.schedule import cubic, prune_iteratively
from perfsuite.techniques.recorded import provenance
from perfsuite.techniques.values import rebuild
from perfsuite.testing import sparsities
from perfsuite.testing.contract import state_bytes
from perfsuite.testing.strategies import TiedClassifier

fractions = st.floats(0, 1)
steps = st.integers(1, 60)


@given(sparsities(), steps)
def test_from_nothing_the_schedule_ends_exactly_and_never_turns_back(final, count):
    values = [cubic(step, count, 0.0, final) for step in range(count + 1)]
    assert values[0] == 0
    assert values[-1] == final
    assert values == sorted(values)


@given(fractions, fractions, steps)
def test_both_ends_of_the_schedule_are_exact(one, other, count):
    """Once wrong: s_f + (s_i - s_f) is not s_i in floating point, as for 0.1 and 0.7."""
    initial, final = sorted((one, other))
    assert cubic(0, count, initial, final) == initial
    assert cubic(count, count, initial, final) == final


@given(fractions, fractions, steps)
def test_the_schedule_stays_between_its_ends(one, other, count):
    """Once wrong: rounding takes it below s_i."""
    initial, final = sorted((one, other))
    values = [cubic(step, count, initial, final) for step in range(count + 1)]
    assert all(initial <= value <= final for value in values)
    assert values == sorted(values)


@given(sparsities(), steps)
def test_the_first_steps_prune_most(final, count):
    gains = [cubic(step + 1, count, 0.0, final) - cubic(step, count, 0.0, final) for step in range(count)]
    assert all(later <= earlier + 1e-12 for earlier, later in itertools.pairwise(gains))


def test_beyond_the_ends_the_schedule_stays_where_it_is():
    assert cubic(-3, 10, 0.0, 0.8) == cubic(0, 10, 0.0, 0.8) == 0
    assert cubic(11, 10, 0.0, 0.8) == 0.8


OPTIMIZERS = {
    "momentum and decay": lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9, weight_decay=0.1),
    "nesterov": lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9, nesterov=True),
    "AdamW": lambda ps: torch.optim.AdamW(ps, lr=0.1, weight_decay=0.1),
    "Adam, fused": lambda ps: torch.optim.Adam(ps, lr=0.1, fused=True),
    "RMSprop": lambda ps: torch.optim.RMSprop(ps, lr=0.1, momentum=0.9),
}


def mlp(*widths):
    layers = [nn.Linear(a, b) for a, b in itertools.pairwise(widths)]
    return nn.Sequential(*[part for layer in layers for part in (layer, nn.ReLU())][:-1])


def train(model, optimizer, rounds=3, x=None):
    with seeded(1):
        x = torch.randn(8, next(model.parameters()).shape[1]) if x is None else x
    for _ in range(rounds):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_zeros_stay_and_the_rest_learns_whatever_the_optimizer_remembers(make):
    with seeded(0):
        model = mlp(6, 8, 3)
    optimizer = make(model.parameters())
    train(model, optimizer)  # moments from before the pruning
    with torch.no_grad():
        model[0].weight[:, ::2] = 0
    zeros, before = model[0].weight == 0, model[0].weight.detach().clone()
    with keep_zeros(model):
        train(model, optimizer)
    after = model[0].weight.detach()
    assert bool((after[zeros] == 0).all())
    assert bool((after[~zeros] != before[~zeros]).any())


def test_gradients_of_zeros_do_not_count():
    with seeded(0):
        model = Magnitude(0.5).apply(mlp(6, 8, 3))
    with keep_zeros(model):
        model(torch.ones(2, 6)).sum().backward()
    weight = model[0].weight
    assert bool((weight.grad[weight == 0] == 0).all())
    assert int(weight.grad.count_nonzero()) > 0


def test_a_tied_weight_keeps_its_zeros_under_both_names():
    with seeded(0):
        model = Magnitude(0.5, include=("embedding",)).apply(TiedClassifier(20, 6))
    zeros, optimizer = model.output.weight == 0, torch.optim.AdamW(model.parameters(), lr=0.1)
    with keep_zeros(model):
        train(model, optimizer, x=torch.randint(0, 20, (2, 5)))
    assert model.embedding.weight is model.output.weight
    assert bool((model.embedding.weight[zeros] == 0).all())
    assert int(zeros.sum()) == 60


def test_a_tied_layer_is_found_under_each_of_its_names():
    """Once wrong: named_parameters() gives only the first name of a tied weight, so the output layer is not found."""
    with seeded(0):
        pruned = Magnitude(0.5, include=("output",)).apply(TiedClassifier(20, 6))
    assert int((pruned.output.weight == 0).sum()) == 60


def test_a_frozen_parameter_stays_frozen_and_one_that_thaws_keeps_its_zeros():
    with seeded(0):
        model = Magnitude(0.5).apply(mlp(6, 8, 3))
    model[0].weight.requires_grad_(False)
    before = model[0].weight.clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    with keep_zeros(model):
        train(model, optimizer)
        assert torch.equal(model[0].weight, before)
        assert not model[0].weight.requires_grad
        model[0].weight.requires_grad_(True)
        train(model, optimizer)
    assert not torch.equal(model[0].weight, before)
    assert bool((model[0].weight[before == 0] == 0).all())


def moves_its_zeros(model):
    zeros = model[0].weight == 0
    train(model, torch.optim.SGD(model.parameters(), lr=1.0, weight_decay=0.1))
    return bool((model[0].weight[zeros] != 0).any())


def test_afterwards_the_model_is_an_ordinary_one():
    with seeded(0):
        model = Magnitude(0.5).apply(mlp(6, 8, 3))
    keys, names = list(model.state_dict()), [name for name, _ in model.named_parameters()]
    with keep_zeros(model):
        assert list(model.state_dict()) == keys
        assert moves_its_zeros(copy.deepcopy(model))  # a copy is another model
    assert [name for name, _ in model.named_parameters()] == names
    assert list(model.state_dict()) == keys
    assert moves_its_zeros(model)


def test_after_an_exception_nothing_is_left_behind():
    with seeded(0):
        model = Magnitude(0.5).apply(mlp(6, 8, 3))
    with pytest.raises(KeyboardInterrupt), keep_zeros(model):
        raise KeyboardInterrupt
    assert moves_its_zeros(model)


def test_another_model_that_trains_meanwhile_is_not_touched():
    with seeded(0):
        model, other = Magnitude(0.5).apply(mlp(6, 8, 3)), Magnitude(0.5).apply(mlp(6, 8, 3))
    with keep_zeros(model):
        assert moves_its_zeros(other)


def test_each_round_trains_a_candidate_and_never_the_model_that_was_given():
    with seeded(0):
        model = mlp(6, 8, 3)
    before, seen, told = state_bytes(model), [], []

    def fine_tune(candidate):
        assert candidate is not model
        assert not {p.data_ptr() for p in candidate.parameters()} & {p.data_ptr() for p in model.parameters()}
        seen.append(int((candidate[0].weight == 0).sum()))
        train(candidate, torch.optim.AdamW(candidate.parameters(), lr=0.1))

    with watched(lambda *step: told.append(step)):
        result = prune_iteratively(model, Magnitude, 0.5, 4, fine_tune=fine_tune)
    assert seen == [round(cubic(step, 4, 0.0, 0.5) * 48) for step in (1, 2, 3, 4)]
    assert state_bytes(model) == before
    assert int((result.model[0].weight == 0).sum()) == 24
    assert not torch.equal(result.model[2].bias, model[2].bias)
    assert [(entry.sparsity, entry.score, entry.kept) for entry in result.rounds] == [
        (cubic(step, 4, 0.0, 0.5), None, True) for step in (1, 2, 3, 4)
    ]
    assert told == [("pruning", step, 4) for step in (1, 2, 3, 4)]
    assert [step.config["sparsity"] for step in provenance(result.model)] == [r.sparsity for r in result.rounds]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=5), st.floats(0, 1))
def test_the_last_model_that_held_the_floor_is_the_result(scores, floor):
    with seeded(0):
        model = mlp(6, 8, 3)
    given_scores, scored = iter(scores), []

    def score(candidate):
        scored.append(state_bytes(candidate))
        return next(given_scores)

    result = prune_iteratively(model, Magnitude, 0.75, len(scores), score=score, floor=floor)
    held = next((number for number, value in enumerate(scores) if value < floor), len(scores))
    assert [entry.kept for entry in result.rounds] == [True] * held + [False] * (held < len(scores))
    assert [entry.score for entry in result.rounds] == scores[: len(result.rounds)]
    assert state_bytes(result.model) == (scored[held - 1] if held else state_bytes(model))
    assert result.model is not model


def test_a_score_of_nan_does_not_hold_a_floor():
    result = prune_iteratively(mlp(6, 8, 3), Magnitude, 0.5, 3, score=lambda model: float("nan"), floor=0.0)
    assert [entry.kept for entry in result.rounds] == [False]


def test_without_a_floor_scores_are_only_noted():
    result = prune_iteratively(mlp(6, 8, 3), Magnitude, 0.5, 3, score=lambda model: -1.0)
    assert [(entry.score, entry.kept) for entry in result.rounds] == [(-1.0, True)] * 3


def test_what_cannot_be_iterated_is_refused_at_once():
    asked = []
    with pytest.raises(UsageError, match="floor needs a score"):
        prune_iteratively(mlp(6, 8, 3), asked.append, 0.5, 3, floor=0.9)
    for iterations in (0, -1):
        with pytest.raises(UsageError, match=f"{iterations} iterations"):
            prune_iteratively(mlp(6, 8, 3), asked.append, 0.5, iterations)
    assert asked == []
    with pytest.raises(TechniqueError, match="no float weight"):
        prune_iteratively(nn.ReLU(), Magnitude, 0.5, 3)


def test_training_that_fails_leaves_the_model_and_the_optimizers_alone():
    with seeded(0):
        model = Magnitude(0.25).apply(mlp(6, 8, 3))
    before = state_bytes(model)

    def fine_tune(candidate):
        raise RuntimeError("the loader is empty")

    with pytest.raises(RuntimeError, match="the loader is empty"):
        prune_iteratively(model, Magnitude, 0.5, 3, fine_tune=fine_tune)
    assert state_bytes(model) == before
    assert moves_its_zeros(model)


@pytest.mark.parametrize("training", [True, False])
def test_the_result_is_in_the_mode_of_the_model(training):
    model = mlp(6, 8, 3).train(training)
    result = prune_iteratively(model, Magnitude, 0.5, 2, fine_tune=lambda candidate: candidate.train(not training))
    assert {module.training for module in result.model.modules()} == {training}


def test_a_norm_that_is_kept_in_eval_mode_stays_so():
    """Once wrong: candidate.train(model.training) sets all modules alike, so a frozen batch norm thaws."""
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)).train()
    model[1].eval()
    result = prune_iteratively(model, Magnitude, 0.5, 2, fine_tune=lambda candidate: None)
    assert [module.training for module in result.model] == [True, False, True, True]


def counts(model):
    return {group.name: group.count for group in find_groups(model)}


@pytest.mark.slow
@given(st.integers(1, 40), st.integers(1, 40), sparsities(), st.integers(1, 6), st.sampled_from([1, 4]))
def test_structured_rounds_end_where_one_step_does(one, other, sparsity, iterations, round_to):
    with seeded(0):
        model = mlp(5, one, other, 3)
    technique_at = lambda s: Structured(s, s, round_to=round_to)  # noqa: E731
    result = prune_iteratively(model, technique_at, sparsity, iterations)
    at_once = technique_at(sparsity).apply(model)
    assert counts(result.model) == counts(at_once)
    fresh = rebuild(copy.deepcopy(model), provenance(result.model))
    fresh.load_state_dict(result.model.state_dict())
    assert state_bytes(fresh) == state_bytes(result.model)


@pytest.mark.slow
@given(st.integers(2, 40), st.integers(2, 40), sparsities(), st.integers(1, 6))
def test_structured_rounds_over_all_layers_end_with_as_many_units(one, other, sparsity, iterations):
    assume(sparsity < 1)
    with seeded(0):
        model = mlp(5, one, other, 3)
    technique_at = lambda s: Structured(s, s, scope="global")  # noqa: E731
    result = prune_iteratively(model, technique_at, sparsity, iterations)
    assert sum(counts(result.model).values()) == sum(counts(technique_at(sparsity).apply(model)).values())


def test_units_that_are_gone_are_gone_for_good_while_the_rest_is_trained():
    with seeded(0):
        model = mlp(5, 16, 3)
    seen = []

    def fine_tune(candidate):
        seen.append(candidate[0].out_features)
        train(candidate, torch.optim.SGD(candidate.parameters(), lr=0.01))

    result = prune_iteratively(model, lambda s: Structured(s, s), 0.75, 3, fine_tune=fine_tune)
    assert seen == sorted(seen, reverse=True)
    assert seen[-1] == 4 == result.model[0].out_features
