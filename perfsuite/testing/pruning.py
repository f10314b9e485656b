"""What must hold for pruning: magnitude laws, and the laws of removing units."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from perfsuite.protocols import Technique
from perfsuite.techniques.attention import split_attention
from perfsuite.techniques.pruning.groups import Group, find_groups
from perfsuite.techniques.pruning.masks import keep_zeros
from perfsuite.techniques.pruning.zeros import parameters_to_prune
from perfsuite.testing.contract import Contract, Law, each, run, state_bytes
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
    """The small model computes what the full one does with the removed units masked where they are read."""
    original = split_attention(copy.deepcopy(sample.model)).eval()
    small = technique.apply(sample.model, data=sample.data).eval()
    with torch.no_grad():
        for group, kept, _ in _kept(original, small):
            mask_units(group, kept)
    one, other = run(original, sample.inputs), run(small, sample.inputs)
    tolerance = 1e-12 if one.dtype == torch.float64 else 1e-5
    scale = float(one.abs().max()) or 1.0
    worst = float((one - other).abs().max()) / scale
    assert worst <= 10 * tolerance, f"differs from the masked model by {worst:.1e} of the largest output"


def drops_what_the_units_owned(technique: Technique, sample: Sample) -> None:
    """Parameters drop by exactly what the removed units owned."""
    original = split_attention(copy.deepcopy(sample.model))
    small = technique.apply(sample.model, data=sample.data)
    gone = sum(owned * (group.count - kept.shape[-1]) for group, kept, owned in _kept(original, small))
    before, after = (sum(p.numel() for p in model.parameters()) for model in (original, small))
    assert before - after == gone, f"{before - after} parameters went, the removed units owned {gone}"


def one_of_each_stays(technique: Any, sample: Sample) -> None:
    """At least one; at most what is asked to stay, but for ``round_to``, of which the rest is a multiple."""
    before = {(g.name, g.kind): g.count for g in find_groups(split_attention(copy.deepcopy(sample.model)))}
    after = {(g.name, g.kind): g.count for g in find_groups(technique.apply(sample.model, data=sample.data))}
    assert before.keys() == after.keys(), "a whole group went"
    for key, count in after.items():
        assert count >= 1, f"nothing is left of {key}"
        if key[1] == "units":
            rounded = count % technique.round_to == 0 or count == before[key]
            assert rounded, f"{count} units are left of {key}: no multiple of {technique.round_to}"
    if technique.scope == "local":
        for (name, kind), count in before.items():
            fraction = technique.heads if kind == "heads" else technique.units
            slack = technique.round_to - 1 if kind == "units" else 0
            wanted = max(1, count - round(fraction * count))
            assert wanted <= after[name, kind] <= wanted + slack, f"{after[name, kind]} of {count} are left of {name}"


def configs_agree_with_shapes(technique: Technique, sample: Sample) -> None:
    """A model that has a config of its own can be built again from it."""
    small: Any = technique.apply(sample.model, data=sample.data)
    if hasattr(small, "config"):
        again = type(small).from_config(small.config)
        shapes = [{name: p.shape for name, p in model.named_parameters()} for model in (small, again)]
        assert shapes[0] == shapes[1], "the config does not say what the shapes are"


def ignores_the_order_of_units(technique: Technique, sample: Sample) -> None:
    """Units that change places before pruning change no output."""
    turned = split_attention(copy.deepcopy(sample.model))
    for group in find_groups(turned):
        group.keep(torch.arange(group.count).flip(0))
    one = run(technique.apply(sample.model, data=sample.data).eval(), sample.inputs)
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


def _kept(original: nn.Module, small: nn.Module) -> list[tuple[Group, Tensor, int]]:
    """For each group of the original: which units the small model still has (K,), or each lane of it has (L, K).

    They are found by their bytes. And how many parameters each of them owned. In a chain the removal of a unit cuts the
    rows of the next group, so the groups are replayed one after the other.
    """
    left = {(group.name, group.kind): group for group in find_groups(small)}
    found = []
    for group, replayed in zip(find_groups(original), find_groups(copy.deepcopy(original)), strict=True):
        mine, theirs = _unit_bytes(replayed), _unit_bytes(left[group.name, group.kind])
        lanes = [_places(own, kept, group.name) for own, kept in zip(mine, theirs, strict=True)]
        kept = torch.tensor(lanes if len(lanes) > 1 else lanes[0])
        found.append((group, kept, replayed.owned))
        replayed.keep(kept)
    return found


def _places(mine: list[bytes], theirs: list[bytes], name: str) -> list[int]:
    kept = [index for index, unit in enumerate(mine) if unit in set(theirs)]
    assert [mine[index] for index in kept] == theirs, f"the units of {name} are not some of the original's"
    return kept


def _unit_bytes(group: Group) -> list[list[bytes]]:
    """Of each lane, of which most groups have one."""
    source = group.sources[0]
    rows = source.by_unit(source.values.detach())
    bias = getattr(source.layer, "bias", None) if source.tensor == "weight" else None
    if bias is not None:
        first = source.features // source.per_count * source.before
        mine = bias.detach()[first : first + group.count * source.width]
        rows = torch.cat([rows, mine.unflatten(0, (-1, source.width))], dim=1)
    lanes = rows if rows.dim() == 3 else rows[None]
    return [[row.contiguous().numpy().tobytes() for row in lane] for lane in lanes]


def mask_units(group: Group, kept: Tensor) -> None:
    """Zero what reads the units that are gone."""
    for member in group.members:
        gone = torch.ones_like(member.sink.values)
        index = member.sink.index(kept)
        shape = [1] * gone.dim()
        shape[member.sink.axis] = index.shape[-1]
        if index.dim() == 2:
            shape[0] = len(index)
        whole = [index.shape[-1] if at == member.sink.axis else size for at, size in enumerate(gone.shape)]
        gone.scatter_(member.sink.axis, index.reshape(shape).expand(whole), 0)
        member.sink.values.masked_fill_(gone.bool(), 0)
