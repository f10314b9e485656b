"""A forward that writes to weights in place: what it writes to stays in float, and no check or file does it twice."""

import copy

import pytest
import torch
import transformers as tf
from torch import nn

import perfsuite
from perfsuite import Inputs, parse_technique, provenance
from perfsuite.models.seeding import seeded
from perfsuite.techniques.comparing import answers, decibels
from perfsuite.techniques.visiting import unwritten, visited
from perfsuite.techniques.writing import remembered, written_layers
from perfsuite.testing.contract import state_bytes
from tests.techniques.small import randn

IDS = Inputs(kwargs={"input_ids": torch.arange(24).reshape(2, 12)})
SIZES = {"hidden_size": 32, "attention_hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
TECHNIQUES = ("int8-dynamic", "int8-static", "weight-only-8", "magnitude-50", "structured-50", "bf16")


def rwkv():
    """Its second layer is halved at the first call."""
    with seeded(0):
        return tf.RwkvForCausalLM(tf.RwkvConfig(vocab_size=60, rescale_every=1, **SIZES)).eval()


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(8, 8))
        self.done = False

    def forward(self, x):
        self.change()
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


class InPlace(Base):
    def change(self):
        if not self.done:
            with torch.no_grad():
                self.layers[1].weight.mul_(0.5)
            self.done = True


class Assigned(Base):
    def change(self):
        self.head[1].weight.data = self.head[1].weight.data.clamp(-0.1, 0.1)


class Augmented(Base):
    def change(self):
        with torch.no_grad():
            for layer in self.layers:
                layer.weight *= 1.0


class Another(Base):
    def change(self):
        self.head[1].weight = nn.Parameter(self.head[1].weight * 0.5)


class Freezing(Base):
    def change(self):
        self.head[1].weight.requires_grad_(False)


class Inherited(InPlace):
    def forward(self, x):
        return super().forward(x) * 2


class Reading(Base):
    def change(self):
        for layer in self.layers:
            layer.weight.detach().clone().mul_(2)


class Itself(nn.Linear):
    def forward(self, x):
        self.weight.data.clamp_(-1, 1)
        return super().forward(x)


HALVED = {f"rwkv.blocks.{n}.{end}" for n in range(2) for end in ("attention.output", "feed_forward.value")}
LAYERS, HEAD = {f"layers.{number}" for number in range(3)}, {"head.0", "head.1"}
ALL = frozenset(name for name, _ in Base().named_modules())


@pytest.mark.parametrize(
    ("make", "found"),
    [(InPlace, LAYERS), (Inherited, LAYERS), (Assigned, HEAD), (Another, HEAD), (Augmented, ALL), (Itself, {""}),
     (Freezing, frozenset()), (Reading, frozenset()),
     (rwkv, HALVED)],
)  # fmt: skip
def test_what_a_forward_writes_to_is_found_in_its_source(make, found):
    assert written_layers(make(8, 8) if make is Itself else make()) == found


@pytest.mark.parametrize("called", [False, True], ids=["fresh", "called"])
@pytest.mark.parametrize("name", TECHNIQUES)
def test_rwkv_answers_as_it_did_also_from_a_file(name, called, tmp_path):
    model = rwkv()
    if called:
        answers(model, IDS)
    before = state_bytes(model)
    result = parse_technique(name).apply(model, data=[IDS])
    assert state_bytes(model) == before
    assert model.rwkv.layers_are_rescaled is called
    saved = perfsuite.save_model(copy.deepcopy(result), tmp_path / "before its first call")
    found = answers(result, IDS)
    if name.startswith(("int8", "weight", "bf16")):
        assert decibels(answers(model, IDS), found) > 25
    for folder in (saved, perfsuite.save_model(result, tmp_path / "after it")):
        assert decibels(found, answers(perfsuite.load_model(folder), IDS)) == 300


def test_the_record_names_what_stays_in_float():
    (step,) = provenance(parse_technique("int8-dynamic").apply(rwkv(), data=[IDS]))
    assert set(step.structure["in_float"]) == HALVED


def test_what_it_remembers_is_loaded_into_a_model_in_autocast(tmp_path):
    result = parse_technique("bf16-autocast").apply(rwkv())
    found = answers(result, IDS)
    assert remembered(result.module) == {"rwkv": {"layers_are_rescaled": True}}
    assert decibels(found, answers(perfsuite.load_model(perfsuite.save_model(result, tmp_path / "x")), IDS)) == 300


@pytest.mark.parametrize("make", [InPlace, Assigned, Augmented, Another])
@pytest.mark.parametrize("context", [visited, unwritten])
def test_what_a_visited_model_writes_is_taken_back(make, context):
    model = make()
    weights, before = list(model.parameters()), state_bytes(model)
    for _ in range(2):
        with context(model):
            model(randn(2, 8))
    assert state_bytes(model) == before
    assert all(one is other for one, other in zip(model.parameters(), weights, strict=True))
