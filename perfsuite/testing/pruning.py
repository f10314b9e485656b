"""What must hold for pruning: magnitude laws, and the laws of removing units."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from perfsuite.protocols import Inputs, Technique
from perfsuite.techniques.attention import split_attention
from perfsuite.techniques.pruning.coupling.units import Units
from perfsuite.techniques.pruning.groups import Group, find_groups
from perfsuite.techniques.pruning.masks import keep_zeros
from perfsuite.techniques.pruning.zeros import parameters_to_prune
from perfsuite.testing.contract import Contract, Law, each, run, state_bytes
from perfsuite.testing.kept import found_groups, kept_units, turn
from perfsuite.testing.strategies import Sample, models


def zeros_are_exactly_as_many_as_asked(technique: Any, sample: Sample) -> None:
    """Local: round(s * n) of each tensor; global: round(s * N) of all; ties and earlier zeros included."""
    before, after = _weights(sample.model), _weights(technique.apply(sample.model))
    zeros = {name: int((weight == 0).sum()) for name, weight in after.items()}
    if technique.scope == "local":
        for name, weight in before.items():
            wanted = max(round(technique.sparsity * weight.numel()), int((weight == 0).sum()))
            assert zeros[name] == wanted, f"{name} has {zeros[name]} zeros, not {wanted}"
    else:
        total = sum(weight.numel() for weight in before.values())
        already = sum(int((weight == 0).sum()) for weight in before.values())
        wanted = max(round(technique.sparsity * total), already)
        assert sum(zeros.values()) == wanted, f"{sum(zeros.values())} zeros, not {wanted}"


def kept_weights_are_untouched_and_not_smaller(technique: Any, sample: Sample) -> None:
    """What is kept is bit-identical, and no smaller than anything that went."""
    before, after = _weights(sample.model), _weights(technique.apply(sample.model))
    kept = {name: weight != 0 for name, weight in after.items()}
    for name, weight in before.items():
        assert torch.equal(after[name][kept[name]], weight[kept[name]]), f"kept values of {name} have changed"
    groups = [[name] for name in before] if technique.scope == "local" else [list(before)]
    for names in groups:
        high = torch.cat([before[name][kept[name]].abs() for name in names])
        low = torch.cat([before[name][~kept[name]].abs() for name in names])
        if len(high) and len(low):
            assert float(high.min()) >= float(low.max()), "something larger than a kept weight was pruned"


def pruning_twice_is_pruning_once(technique: Any, sample: Sample) -> None:
    once = technique.apply(sample.model)
    assert state_bytes(technique.apply(once)) == state_bytes(once), "pruning twice is not pruning once"


def more_sparsity_prunes_a_superset(technique: Any, sample: Sample) -> None:
    more = replace(technique, sparsity=(1 + technique.sparsity) / 2)
    few, many = _weights(technique.apply(sample.model)), _weights(more.apply(sample.model))
    assert all(bool((many[name][few[name] == 0] == 0).all()) for name in few), "a weight came back at more sparsity"


def the_mask_ignores_the_scale(technique: Any, sample: Sample) -> None:
    """Invariant under w -> 4 w, which is exact in floating point."""
    larger = copy.deepcopy(sample.model)
    with torch.no_grad():
        for weight in _weights(larger).values():
            weight.mul_(4)
    masks = [{n: w == 0 for n, w in _weights(technique.apply(m)).items()} for m in (sample.model, larger)]
    assert all(torch.equal(masks[0][name], masks[1][name]) for name in masks[0]), "the mask depends on the scale"


def zeros_survive_fine_tuning(technique: Any, sample: Sample) -> None:
    """Also with weight decay, and momentum from before; and names, types and shapes stay what they were."""
    model = technique.apply(sample.model)
    keys = {name: (t.dtype, t.shape) for name, t in model.state_dict().items()}
    zeros = {name: weight == 0 for name, weight in _weights(model).items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    for parameter in model.parameters():
        optimizer.state[parameter]["momentum_buffer"] = torch.ones_like(parameter)
    with keep_zeros(model):
        for _ in range(2):
            optimizer.zero_grad()
            model(*sample.inputs.args, **sample.inputs.kwargs).square().mean().backward()
            optimizer.step()
    after = _weights(model)
    assert all(bool((after[name][mask] == 0).all()) for name, mask in zeros.items()), "zeros moved while fine-tuning"
    assert {name: (t.dtype, t.shape) for name, t in model.state_dict().items()} == keys, "something was left behind"


MAGNITUDE_LAWS: tuple[Law, ...] = (
    zeros_are_exactly_as_many_as_asked,
    kept_weights_are_untouched_and_not_smaller,
    pruning_twice_is_pruning_once,
    more_sparsity_prunes_a_superset,
    the_mask_ignores_the_scale,
    zeros_survive_fine_tuning,
)


class MagnitudeContract(Contract):
    """The laws of magnitude pruning, for a technique with ``sparsity`` and ``scope``."""

    @each(MAGNITUDE_LAWS)
    def test_magnitude_law(self, law: Law) -> None:
        self.check(law)


def equals_the_masked_model(technique: Technique, sample: Sample) -> None:
    """The small model computes what the full one does with the removed units masked where they are read, in float64.

    In the sample's own dtype, if the model computes in no other.
    """
    sample = _in_double(sample)
    original = split_attention(copy.deepcopy(sample.model)).eval()
    small = technique.apply(sample.model, data=sample.data).eval()
    kept_units(original, small, sample).mask(original)
    one, other = run(original, sample.inputs), run(small, sample.inputs)
    tolerance = 1e-12 if one.dtype == torch.float64 else 1e-5
    scale = float(one.abs().max()) or 1.0
    worst = float((one - other).abs().max()) / scale
    assert worst <= 10 * tolerance, f"differs from the masked model by {worst:.1e} of the largest output"


def drops_what_the_units_owned(technique: Technique, sample: Sample) -> None:
    """Parameters drop by exactly what the removed units owned."""
    original = split_attention(copy.deepcopy(sample.model))
    small = technique.apply(sample.model, data=sample.data)
    gone = kept_units(original, small, sample).owned_by_the_gone(original)
    before, after = (sum(p.numel() for p in model.parameters()) for model in (original, small))
    assert before - after == gone, f"{before - after} parameters went, the removed units owned {gone}"


def one_of_each_stays(technique: Any, sample: Sample) -> None:
    """At least one; at most what is asked to stay, but for ``round_to``, of which the rest is a multiple."""
    original = split_attention(copy.deepcopy(sample.model))
    kept = kept_units(original, technique.apply(sample.model, data=sample.data), sample)
    counts: list[tuple[Group | Units, int]] = [(each.group, each.kept.shape[-1]) for each in kept.declared]
    for group, left in [*counts, *((units, len(stay)) for units, stay in kept.found)]:
        assert left >= 1, f"nothing is left of {group.name}"
        is_rounded = group.kind == "heads" or left % technique.round_to == 0 or left == group.count
        assert is_rounded, f"{left} units are left of {group.name}: no multiple of {technique.round_to}"
        if technique.scope == "local":
            fraction = technique.heads if group.kind == "heads" else technique.units
            slack = technique.round_to - 1 if group.kind == "units" else 0
            wanted = max(1, group.count - round(fraction * group.count))
            assert wanted <= left <= wanted + slack, f"{left} of {group.count} are left of {group.name}"


def configs_agree_with_shapes(technique: Technique, sample: Sample) -> None:
    """A model that has a config of its own can be built again from it."""
    small: Any = technique.apply(sample.model, data=sample.data)
    if hasattr(small, "config"):
        again = type(small).from_config(small.config)
        shapes = [{name: p.shape for name, p in model.named_parameters()} for model in (small, again)]
        assert shapes[0] == shapes[1], "the config does not say what the shapes are"


def ignores_the_order_of_units(technique: Technique, sample: Sample) -> None:
    """Units that change places before pruning change no output.

    In float64, where the model computes in it: scores that differ by less than float32 rounds are no order.
    """
    sample = _in_double(sample)
    original = split_attention(copy.deepcopy(sample.model))
    small = technique.apply(sample.model, data=sample.data).eval()
    turned = copy.deepcopy(original)
    found = [units for units, _ in found_groups(original, small, sample)]
    elsewhere = {turned.get_submodule(path) for units in found for path in units.modules}
    for group in find_groups(turned):
        if elsewhere.isdisjoint(group.layers):
            group.keep(torch.arange(group.count).flip(0))
    turn(turned, found)
    one = run(small, sample.inputs)
    other = run(technique.apply(turned, data=sample.data).eval(), sample.inputs)
    scale = float(one.abs().max()) or 1.0
    assert float((one - other).abs().max()) <= 1e-4 * scale, "the order of units decides what is removed"


STRUCTURED_LAWS: tuple[Law, ...] = (
    equals_the_masked_model,
    drops_what_the_units_owned,
    one_of_each_stays,
    configs_agree_with_shapes,
    ignores_the_order_of_units,
)


class StructuredContract(Contract):
    """The laws of structured pruning, for a technique with ``heads``, ``units``, ``scope`` and ``round_to``."""

    samples = models(("encoder", "torch encoder", "MLP", "convolution"))

    @each(STRUCTURED_LAWS)
    def test_structured_law(self, law: Law) -> None:
        self.check(law)


def _weights(model: nn.Module) -> Mapping[str, Tensor]:
    return {name: p.detach() for name, p in parameters_to_prune(model).items()}


def _in_double(sample: Sample) -> Sample:
    double = Sample(copy.deepcopy(sample.model).double(), _as_double(sample.inputs), sample.description)
    try:
        run(copy.deepcopy(double.model).eval(), double.inputs)
    except RuntimeError:  # a model may make numbers of float32 in its own code
        return sample
    return double


def _as_double(inputs: Inputs) -> Inputs:
    def cast(value: Any) -> Any:
        return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value

    return Inputs(tuple(map(cast, inputs.args)), {name: cast(value) for name, value in inputs.kwargs.items()})
