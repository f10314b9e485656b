import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from perfsuite import Magnitude
from perfsuite.errors import NonFiniteError, TechniqueError, UsageError
from perfsuite.models.seeding import seeded
from perfsuite.techniques.pruning.zeros import parameters_to_prune, smallest
from perfsuite.testing import float_tensors, models, scales, sparsities


@given(float_tensors(), sparsities())
def test_exactly_the_count_is_chosen_and_nothing_smaller_is_kept(x, sparsity):
    magnitudes = x.flatten().abs()
    mask = smallest(magnitudes, sparsity)
    assert int(mask.sum()) == round(sparsity * magnitudes.numel())
    if 0 < int(mask.sum()) < magnitudes.numel():
        assert float(magnitudes[~mask].min()) >= float(magnitudes[mask].max())


@given(float_tensors(), sparsities(), sparsities())
def test_a_greater_sparsity_prunes_a_superset(x, one, other):
    low, high = sorted((one, other))
    magnitudes = x.flatten().abs()
    assert bool((smallest(magnitudes, low) <= smallest(magnitudes, high)).all())


@given(st.integers(0, 2**32 - 1), sparsities(), scales())
def test_the_mask_does_not_depend_on_the_scale(seed, sparsity, scale):
    magnitudes = torch.rand(50, generator=torch.Generator().manual_seed(seed)) + 0.5
    assert torch.equal(smallest(magnitudes, sparsity), smallest(magnitudes * scale, sparsity))


@given(models(), sparsities(), st.sampled_from(["local", "global"]))
def test_kept_values_are_bit_identical_and_counts_exact(sample, sparsity, scope):
    pruned = Magnitude(sparsity, scope).apply(sample.model)
    before, after = parameters_to_prune(sample.model), parameters_to_prune(pruned)
    for name, old in before.items():
        new = after[name]
        kept = new != 0
        assert torch.equal(new[kept], old[kept])
        if scope == "local":
            assert int((~kept).sum()) == max(round(sparsity * old.numel()), int((old == 0).sum()))
    total = sum(weight.numel() for weight in before.values())
    zeros = sum(int((weight == 0).sum()) for weight in after.values())
    if scope == "global":
        assert zeros == round(sparsity * total)
    others = {name: p for name, p in sample.model.named_parameters() if name not in before}
    assert all(torch.equal(p, dict(pruned.named_parameters())[name]) for name, p in others.items())


@given(models(), sparsities(), st.sampled_from(["local", "global"]))
def test_pruning_twice_is_pruning_once(sample, sparsity, scope):
    technique = Magnitude(sparsity, scope)
    once = technique.apply(sample.model)
    twice = technique.apply(once)
    assert all(torch.equal(a, b) for a, b in zip(once.state_dict().values(), twice.state_dict().values(), strict=True))


def test_the_ends():
    with seeded(0):
        model = nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 3))
    untouched, emptied = Magnitude(0.0).apply(model), Magnitude(1.0).apply(model)
    assert torch.equal(untouched[0].weight, model[0].weight)
    assert int(emptied[0].weight.count_nonzero()) + int(emptied[1].weight.count_nonzero()) == 0
    assert torch.equal(emptied[0].bias, model[0].bias)


def test_a_constant_tensor_loses_exactly_half():
    model = nn.Linear(10, 10)
    nn.init.constant_(model.weight, 0.3)
    assert int((Magnitude(0.5).apply(model).weight == 0).sum()) == 50


def test_bad_input_is_refused_before_anything_changes():
    with pytest.raises(UsageError, match="not between 0 and 1"):
        Magnitude(1.5)
    with pytest.raises(UsageError, match="unknown scope"):
        Magnitude(0.5, "sideways")
    with pytest.raises(TechniqueError, match="no float weight"):
        Magnitude(0.5).apply(nn.ReLU())
    broken = nn.Linear(3, 3)
    nn.init.constant_(broken.weight, float("nan"))
    with pytest.raises(NonFiniteError, match="'weight' has 9 NaN"):
        Magnitude(0.5).apply(broken)
