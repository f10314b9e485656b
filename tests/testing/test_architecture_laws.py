"""Each law of an architecture is seen to catch its defect, planted in the example of the docs or in Llama."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaModel

from perfsuite import Architecture, Built, ModelSpec, Structured, unchecked
from perfsuite.errors import StorageError
from perfsuite.registry import ARCHITECTURES, Registries
from perfsuite.techniques.pruning.architectures.llama import LLAMA
from perfsuite.testing import ARCHITECTURE_LAWS, ArchitectureContract, architecture, contract, pruning
from tests.techniques.small import SIZES, tokens

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "extending" / "architecture" / "conftest.py"
TECHNIQUE = Structured(0.5, 0.5)


def load_example():
    """The file as it stands in the docs."""
    spec = importlib.util.spec_from_file_location("grouped_example", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


example = load_example()


def changed(change, original=example.GROUPED):
    """The architecture, with one defect in each of its groups."""
    return Architecture(original.is_mine, lambda module: [change(group) for group in original.groups(module)])


def spoiled(spoil):
    """The example's model, with one defect in each of its blocks."""

    def build(seed):
        module = example.build(seed).module
        for block in module:
            spoil(block)
        return Built(module, "random-init")

    return replace(example.MODEL, build=build)


def holds(law, known=example.GROUPED, spec=example.MODEL):
    registries = Registries()
    registries.architectures.register("changed", known)
    with registries.active():
        sample = architecture.sample_of(spec)
        law(known if law is architecture.finds_its_units else TECHNIQUE, sample)


def scaled_by_position(block):
    """Units that differ by where they stand, which no group can say."""
    block.up.register_forward_hook(lambda layer, args, y: y * torch.arange(1, y.shape[-1] + 1))


def with_a_parameter_of_its_own(block):
    """One number for each unit, in a layer that is cut down to fewer."""
    block.up.gain = nn.Parameter(torch.ones(block.up.out_features))


def counts_something_else(group):
    return replace(group, attributes=dict.fromkeys(group.attributes, 3))


def is_named_by_the_object(group):
    """By what no fresh model has."""
    return replace(group, name=str(id(group.sink.layer)))


DEFECTS = {
    pruning.equals_the_masked_model: ({"spec": spoiled(scaled_by_position)}, "differs from the masked model"),
    pruning.drops_what_the_units_owned: ({"spec": spoiled(with_a_parameter_of_its_own)}, "the removed units owned"),
    architecture.numbers_agree_with_shapes: ({"known": changed(counts_something_else)}, "its shapes say 12"),
    pruning.ignores_the_order_of_units: ({"spec": spoiled(scaled_by_position)}, "the order of units decides"),
    contract.round_trips_through_files: ({"known": changed(is_named_by_the_object)}, "and none are found in this"),
}


@pytest.mark.parametrize("law", DEFECTS, ids=lambda law: law.__name__)
def test_law(law):
    defect, message = DEFECTS[law]
    holds(law)
    with unchecked(), pytest.raises((AssertionError, StorageError), match=message):  # the law is to find it
        holds(law, **defect)


def test_every_law_has_its_planted_defect():
    assert set(DEFECTS) == set(ARCHITECTURE_LAWS)


# what is found


class Doubled(nn.Linear):
    """Computes something else than what its class is named after."""

    def forward(self, x):
        return 2 * super().forward(x)


def of_another_kind_of_linear(block):
    block.down = Doubled(block.down.in_features, block.down.out_features)


def twice(module):
    return [*example.GROUPED.groups(module), *example.GROUPED.groups(module)]


NOT_FOUND = {
    "no module of the Sequential has units": {"known": Architecture(lambda module: False, example.groups_of)},
    "are not all linear": {"spec": spoiled(of_another_kind_of_linear)},
    "groups of one kind have the same name": {"known": Architecture(example.GROUPED.is_mine, twice)},
}


@pytest.mark.parametrize("message", NOT_FOUND)
def test_units_that_are_not_found_are_told(message):
    holds(architecture.finds_its_units)
    with pytest.raises(AssertionError, match=message):
        holds(architecture.finds_its_units, **NOT_FOUND[message])


# the config of a Hugging Face model


def build_llama(seed):
    config = LlamaConfig(
        hidden_size=16, num_attention_heads=4, num_key_value_heads=2, intermediate_size=6, num_hidden_layers=2, **SIZES
    )
    return Built(LlamaModel(config), "random-init")


LLAMA_SPEC = ModelSpec("llama", build_llama, lambda *_: tokens().kwargs)


def forgets_the_config(group):
    return replace(group, config={})


def takes_queries_for_keys(group):
    return replace(group, config=dict.fromkeys(group.config, 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (forgets_the_config, "no field of the config is named that says how many units"),
        (takes_queries_for_keys, "num_attention_heads of the LlamaConfig is 4, its shapes say 2"),
    ],
)
def test_a_config_that_does_not_follow_is_caught(monkeypatch, change, message):
    law = architecture.numbers_agree_with_shapes
    holds(law, LLAMA, LLAMA_SPEC)
    planted = changed(change, LLAMA)
    assert ARCHITECTURES.get("llama") is LLAMA
    monkeypatch.setitem(ARCHITECTURES._values, "llama", planted)
    with pytest.raises(AssertionError, match=message):
        holds(law, planted, LLAMA_SPEC)


def test_a_config_that_was_left_as_it_was_is_caught(monkeypatch):
    monkeypatch.setattr("perfsuite.techniques.pruning.removal.sync_configs", lambda model, fields: None)
    with pytest.raises(AssertionError, match="of the LlamaConfig is"):
        holds(architecture.numbers_agree_with_shapes, LLAMA, LLAMA_SPEC)


class WithoutOne(ArchitectureContract):
    architecture = example.GROUPED
    model = example.MODEL
    not_applicable = {"drops_what_the_units_owned": "they own nothing"}  # noqa: RUF012  # as users write it


def test_a_law_that_does_not_apply_is_skipped_with_its_reason():
    with pytest.raises(pytest.skip.Exception, match="they own nothing"):
        WithoutOne().test_law(pruning.drops_what_the_units_owned)
    WithoutOne().test_law(architecture.numbers_agree_with_shapes)
