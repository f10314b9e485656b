"""Which heads and units are removed, and how many, and where they are named."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from transformers import BertForMaskedLM

from perfsuite import Structured
from perfsuite.errors import TechniqueError
from perfsuite.protocols import Inputs
from perfsuite.storage import load, save
from perfsuite.techniques.pruning.groups import find_groups
from perfsuite.techniques.pruning.importance import importance_of
from perfsuite.techniques.recorded import Digested, provenance
from perfsuite.testing.contract import run
from perfsuite.testing.pruning import equals_the_masked_model
from perfsuite.testing.strategies import Sample
from tests.techniques.small import HALF, TAYLOR, bert, counts, distilbert, encoder, ids, mlp, randn, tokens

# what is chosen, and how many


def test_taylor_finds_the_unit_that_matters_and_magnitude_the_one_that_is_large():
    model = mlp(2, 2, 1)
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[100.0, 100.0], [0.1, 0.1]]))
        model[0].bias.copy_(torch.tensor([-1e4, 0.0]))  # the large unit is never on
        model[2].weight.copy_(torch.tensor([[100.0, 0.1]]))
    data = [torch.rand(8, 2)]
    large, useful = (technique.apply(model, data=data) for technique in (HALF, TAYLOR))
    assert float(large[0].weight[0, 0]) == 100
    assert float(useful[0].weight[0, 0]) == pytest.approx(0.1)
    torch.testing.assert_close(useful(data[0]), model(data[0]))


def test_taylor_reads_the_labels_of_a_data_loader():
    """A unit that all logits share moves the outputs most, and the cross entropy not at all."""
    model = mlp(2, 2, 2)
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(2))
        model[0].bias.zero_()
        model[2].weight.copy_(torch.tensor([[9.0, 1.0], [9.0, -1.0]]))
        model[2].bias.zero_()
    x, y = torch.rand(12, 2), torch.tensor([0, 1] * 6)
    with_labels = TAYLOR.apply(model, data=DataLoader(TensorDataset(x, y), batch_size=4))
    without = TAYLOR.apply(model, data=DataLoader(x, batch_size=4))
    assert with_labels[2].weight.abs().flatten().tolist() == [1, 1]
    assert without[2].weight.flatten().tolist() == [9, 9]


def test_taylor_reads_labels_of_tokens_and_floats():
    as_dict = [{**tokens().kwargs, "labels": torch.tensor([1, 0])}]
    assert counts(TAYLOR.apply(distilbert(), data=as_dict), "heads") == [2, 2]
    of_tokens = [{**tokens().kwargs, "labels": torch.full((2, 7), -100).scatter(1, torch.tensor([[1], [2]]), 5)}]
    assert counts(TAYLOR.apply(bert(BertForMaskedLM), data=of_tokens), "units") == [12, 12]
    assert counts(TAYLOR.apply(mlp(4, 8, 2), data=[[randn(3, 4), randn(3, 2)]]), "units") == [4]


def test_taylor_is_the_gradient_of_a_gate_before_the_reader():
    """Against autograd on gates put in by hooks, over two batches."""
    model, batches = encoder(num_classes=3), [[ids(), torch.tensor([0, 2])], [ids().flip(1), torch.tensor([1, 1])]]
    groups = find_groups(model)
    gates = [torch.ones(group.count, requires_grad=True) for group in groups]
    measured = importance_of(model, groups, "taylor", Digested(batches))
    for group, gate in zip(groups, gates, strict=True):
        group.sink.layer.register_forward_pre_hook(
            lambda layer, args, gate=gate, width=group.sink.width: (args[0] * gate.repeat_interleave(width),)
        )
    totals = [torch.zeros(group.count) for group in groups]
    for x, y in batches:
        for total, gradient in zip(totals, torch.autograd.grad(F.cross_entropy(model(x), y), gates), strict=True):
            total += gradient.abs()
    for group, total in zip(groups, totals, strict=True):
        torch.testing.assert_close(measured[group.name, group.kind].float(), total, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_taylor_leaves_gradients_modes_and_what_is_frozen_as_they_were(training):
    model, x = mlp(4, 8, 8, 2).train(training), randn(3, 4)
    model[0].weight.requires_grad_(False)
    model[4].bias.requires_grad_(False)
    model(x).sum().backward()
    wanted = [p.requires_grad for p in model.parameters()]
    gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    small = TAYLOR.apply(model, data=[x])
    for result in (model, small):
        assert [p.requires_grad for p in result.parameters()] == wanted
        assert {module.training for module in result.modules()} == {training}
    assert all(p.grad is None for p in small.parameters())
    for p, gradient in zip(model.parameters(), gradients, strict=True):
        assert (p.grad is None) == (gradient is None)
        assert gradient is None or torch.equal(p.grad, gradient)


def test_taylor_works_where_gradients_are_switched_off():
    with torch.no_grad():
        assert TAYLOR.apply(mlp(4, 8, 2).requires_grad_(False), data=[randn(3, 4)])[0].out_features == 4


def test_a_batch_that_does_not_reach_a_layer_gives_it_no_importance():
    class Mixture(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.other = mlp(4, 8, 2), mlp(4, 8, 2)

        def forward(self, x):
            return self.one(x) if float(x.sum()) > 0 else self.other(x)

    assert counts(TAYLOR.apply(Mixture(), data=[torch.ones(2, 4)]), "units") == [4, 4]


@given(st.integers(1, 40), st.floats(0, 1), st.integers(1, 20), st.sampled_from(["local", "global"]))
def test_kept_units_are_rounded_up_to_a_multiple(width, fraction, multiple, scope):
    kept = Structured(0.0, fraction, scope=scope, round_to=multiple).apply(mlp(4, width, 2))[0].out_features
    wanted = max(1, width - round(fraction * width))
    assert kept == min(width, -(-wanted // multiple) * multiple)


def test_round_to_is_not_for_heads():
    small = Structured(0.75, 0.75, round_to=8).apply(encoder())
    assert (counts(small, "heads"), counts(small, "units")) == ([1, 1], [8, 8])


@given(st.floats(0, 1), st.floats(0, 1), st.sampled_from(["local", "global"]))
def test_fractions_are_of_the_original_when_pruned_twice(first, second, scope):
    once = Structured(0.0, first, scope=scope).apply(mlp(4, 20, 16, 2))
    twice = Structured(0.0, second, scope=scope).apply(once)
    left = sum(counts(twice, "units"))
    expected = [max(1, n - round(max(first, second) * n)) for n in (20, 16)]
    assert left == sum(expected)
    assert [step.structure["of"]["units"] for step in provenance(twice)] == [{"0": 20, "2": 16}] * 2


def test_fractions_are_of_the_original_also_after_loading(tmp_path):
    once = load(save(Structured(0.25, 0.25).apply(bert()), tmp_path / "saved"))
    twice = Structured(0.5, 0.5).apply(once)
    assert (counts(twice, "heads"), counts(twice, "units")) == ([2, 2], [12, 12])
    assert twice.config.perfsuite_built == {"num_attention_heads": 4, "intermediate_size": 24}


def test_at_least_one_of_each_stays():
    small = Structured(1.0, 1.0).apply(encoder())
    assert (counts(small, "heads"), counts(small, "units")) == ([1, 1], [1, 1])
    equals_the_masked_model(Structured(1.0, 1.0), Sample(encoder(), Inputs((ids(),)), ""))


def test_global_scope_takes_from_where_it_matters_least():
    model = encoder(num_classes=3)
    with torch.no_grad():
        model.layers[1].feed_forward.contract.weight.mul_(1e-3)  # what is only small says nothing ...
    assert counts(Structured(0.0, 0.5, scope="global").apply(model), "units") == counts(
        Structured(0.0, 0.5, scope="global").apply(encoder(num_classes=3)), "units"
    )
    small = Structured(0.0, 0.5, "taylor", scope="global").apply(model, data=[[ids(), torch.tensor([0, 2])]])
    assert counts(small, "units")[0] > counts(small, "units")[1]  # ... but to the loss it does not matter


# what is included


def test_include_and_exclude_say_which_layers():
    def left(**selection):
        small = Structured(0.5, 0.5, **selection).apply(encoder())
        return counts(small, "heads"), counts(small, "units")

    assert left(include=("layers.0",)) == ([2, 4], [12, 24])
    assert left(exclude=("layers.0",)) == ([4, 2], [24, 12])
    assert left(include=("*.attention",)) == ([2, 2], [24, 24])
    assert left(exclude=("SelfAttention",)) == ([4, 4], [12, 12])
    assert left(include=("layers.*",), exclude=("layers.1.feed_forward",)) == ([2, 2], [12, 24])


def test_uneven_encoders_load_again(tmp_path):
    small, x = Structured(0.5, 0.5, include=("layers.0",)).apply(encoder()), Inputs((ids(),))
    assert (small.config.num_heads, small.config.d_ff, small.config.head_dim) == ((2, 4), (12, 24), 4)
    assert torch.equal(run(load(save(small, tmp_path / "saved")), x), run(small, x))


def test_the_pattern_that_the_error_message_recommends_selects_heads():
    """Once wrong: a group is known by its container's name, so '*.attention.*' neither includes nor excludes it."""
    small = Structured(0.5, 0.5, exclude=("*.attention.*",)).apply(encoder())
    assert counts(small, "heads") == [4, 4]


@pytest.mark.parametrize("name", ["query", "output", "Linear"])
def test_a_layer_that_is_excluded_is_not_cut(name):
    """Once wrong: an exclusion of one of a group's layers has no effect at all."""
    exclude = name if name == "Linear" else f"layers.0.attention.{name}"
    try:
        small = Structured(0.5, 0.5, exclude=(exclude,)).apply(encoder())
    except TechniqueError:
        return  # all was excluded
    assert small.layers[0].attention.query.out_features == 16
