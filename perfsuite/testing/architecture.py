"""What must hold for a family of models that structured pruning is to know: laws of its architecture."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from perfsuite.models.seeding import seeded
from perfsuite.protocols import Architecture, Inputs, ModelSpec, Technique
from perfsuite.registry import Registries
from perfsuite.techniques.attention import split_attention
from perfsuite.techniques.pruning.configs import configs_above
from perfsuite.techniques.pruning.groups import Group, find_groups
from perfsuite.techniques.pruning.structured import Structured
from perfsuite.testing.contract import Law, drawn, each, round_trips_through_files
from perfsuite.testing.pruning import drops_what_the_units_owned, equals_the_masked_model, ignores_the_order_of_units
from perfsuite.testing.strategies import Sample


def finds_its_units(architecture: Architecture, sample: Sample) -> None:
    """Some module is its own, and each of its groups is found, under a name that no other of the kind has."""
    model = split_attention(copy.deepcopy(sample.model))
    found = find_groups(model)
    mine = [
        group for module in model.modules() if architecture.is_mine(module) for group in architecture.groups(module)
    ]
    assert mine, f"no module of the {type(model).__name__} has units that it knows"
    for group in mine:
        is_found = any(group.layers == other.layers for other in found)
        assert is_found, f"{group.layers} are not all linear, or hold a parameter that another layer shares"
    names = [(group.kind, group.name) for group in found]
    assert len(names) == len(set(names)), f"groups of one kind have the same name: {names}"


def numbers_agree_with_shapes(technique: Technique, sample: Sample) -> None:
    """Before and after, the attributes and config fields that groups name say what the shapes are.

    Where there is a Hugging Face config, groups name its fields; it is right where all layers agree.
    """
    model = split_attention(copy.deepcopy(sample.model))
    for each_model in (model, technique.apply(sample.model, data=sample.data)):
        groups = find_groups(each_model)
        for group in groups:
            for name, per_unit in group.attributes.items():
                _agrees(group.owner, name, group.count * per_unit)
        for group in groups:
            for config in configs_above(each_model, group.name):
                _config_agrees(config, group, [other for other in groups if other.config.keys() & group.config.keys()])


def _config_agrees(config: Any, group: Group, others: Sequence[Group]) -> None:
    """All fields of heads, and some field of units, say how many there are, where layers agree on it."""
    assert group.config, f"no field of the config is named that says how many units {group.name!r} has"
    said = {name: value for name in group.config if isinstance(value := getattr(config, name, None), int)}
    right = {name: group.count * group.config[name] for name in said}
    if not said or len({other.count for other in others}) > 1:
        return
    if group.kind == "heads":
        for name, number in right.items():
            _agrees(config, name, number)
    else:  # a mixture has a field for each kind of expert
        assert said.items() & right.items(), f"{said} of the config: the shapes of {group.name!r} say {right}"


def _agrees(owner: Any, name: str, number: int) -> None:
    said = getattr(owner, name, None)
    assert said == number, f"{name} of the {type(owner).__name__} is {said}, its shapes say {number}"


ARCHITECTURE_LAWS: tuple[Law, ...] = (
    equals_the_masked_model,
    drops_what_the_units_owned,
    numbers_agree_with_shapes,
    ignores_the_order_of_units,
    round_trips_through_files,
)
_FRACTIONS = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])
_TECHNIQUES = st.builds(
    Structured, _FRACTIONS, _FRACTIONS, st.sampled_from(["magnitude", "taylor"]), st.sampled_from(["local", "global"])
)


class ArchitectureContract:
    """The laws of an architecture, over drawn weights and amounts, in float64.

    Subclass it and set ``architecture``, which need not be registered, and ``model``: a small model of the
    family, as it is registered for tests, with some heads and units to remove. ``not_applicable`` has the names of
    laws that the family cannot keep, and why.
    """

    architecture: ClassVar[Architecture]
    model: ClassVar[ModelSpec]
    not_applicable: ClassVar[Mapping[str, str]] = {}

    def test_finds_its_units(self) -> None:
        with _known(self.architecture):
            finds_its_units(self.architecture, sample_of(self.model))

    @each(ARCHITECTURE_LAWS)
    def test_law(self, law: Law) -> None:
        if law.__name__ in self.not_applicable:
            pytest.skip(self.not_applicable[law.__name__])

        @drawn(10)
        @given(_TECHNIQUES, st.integers(0, 2**16))
        def holds(technique: Technique, seed: int) -> None:
            with _known(self.architecture):
                law(technique, sample_of(self.model, seed))

        holds()


def sample_of(spec: ModelSpec, seed: int = 0) -> Sample:
    """The model and its inputs for that seed, in float64 and eval mode."""
    with seeded(seed):
        model = spec.build(seed).module.eval().double()
        inputs = Inputs.of(spec.inputs(model, 2, seed))
    args = tuple(map(_double, inputs.args))
    kwargs = {name: _double(value) for name, value in inputs.kwargs.items()}
    return Sample(model, Inputs(args, kwargs), f"{spec.name} seed={seed}")


def _double(value: Any) -> Any:
    return value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def _known(architecture: Architecture) -> Any:
    registries = Registries()
    registries.architectures.register("the one under test", architecture)
    return registries.active()
