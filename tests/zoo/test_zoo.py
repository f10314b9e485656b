"""The zoo itself: models worth trying, and a trial that finds what is wrong."""

import copy
import warnings
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from perfsuite import Int8Dynamic, Magnitude, Structured
from perfsuite.errors import TechniqueError
from perfsuite.techniques.coverage import CoverageWarning
from perfsuite.techniques.fidelity import FidelityWarning
from tests.zoo.animals import ENTRIES
from tests.zoo.entry import plain
from tests.zoo.inputs import floats
from tests.zoo.known import KNOWN, differences
from tests.zoo.outcome import Outcome
from tests.zoo.table import lines
from tests.zoo.trial import PROMISES, TECHNIQUES, Promise, answers, examined, trial

NAMES = {entry.name for entry in ENTRIES}
MLP = plain("MLP", lambda: nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64)), floats(4, 8))


@dataclass(frozen=True)
class Planted:
    """A technique that does one thing to a copy of the model."""

    does: object
    name = "planted"

    def apply(self, model, *, data=None):
        result = copy.deepcopy(model)
        self.does(model, result)
        return result

    def skeleton(self, model):
        return model


def planted(does, promise):
    return examined(MLP, "planted", Planted(does), promise)


def noise(given, result):
    with torch.no_grad():
        result[0].weight.add_(torch.randn_like(result[0].weight), alpha=0.1)


def change_the_given(given, result):
    with torch.no_grad():
        given[0].weight.zero_()


def change_the_mode(given, result):
    given.train()


def refuse(given, result):
    raise TechniqueError("cannot do this", "do something else")


def refuse_too_late(given, result):
    change_the_given(given, result)
    refuse(given, result)


def fail(given, result):
    raise RuntimeError("somewhere in torch")


def say_it_is_little(given, result):
    warnings.warn("layer '0' stays as it is", CoverageWarning, stacklevel=1)


def say_it_is_far(given, result):
    noise(given, result)
    warnings.warn("less near than usual", FidelityWarning, stacklevel=1)


def say_something_else(given, result):
    warnings.warn("a caution of torch", UserWarning, stacklevel=1)


def remember(given, result):
    """Something that no file holds."""
    result[1].forward = lambda x: 2 * x


def nothing(given, result):
    pass


def test_there_are_as_many_as_the_page_says_and_each_has_a_name_of_its_own():
    assert len(NAMES) == len(ENTRIES) >= 200


def test_what_is_known_to_be_wrong_is_in_the_zoo():
    pairs = [pair for pairs in KNOWN.values() for pair in pairs]
    assert {name for name, _ in pairs} <= NAMES
    assert {technique for _, technique in pairs} <= set(TECHNIQUES)
    assert len(pairs) == len(set(pairs))


@pytest.mark.parametrize("name", ["Bert", "MobileNetV2", "MixtralForCausalLM", "CLIP", "LSTM"])
def test_models_are_the_same_each_time_and_answers_depend_on_inputs(name):
    entry = next(entry for entry in ENTRIES if entry.name == name)
    one, two = entry.build(), entry.build()
    found, same = (answers(model, entry.inputs(model, 0)) for model in (one, two))
    others = answers(one, entry.inputs(one, 1))
    for key, value in found.items():
        assert torch.equal(value, same[key])
        assert float((value - others[key]).norm() / value.norm()) > 0.05


def test_every_bias_and_every_norm_has_values_as_in_trained_models():
    model = next(entry for entry in ENTRIES if entry.name == "Bert").build()
    assert all(float(p.detach().std()) > 0.01 for p in model.parameters())


@pytest.mark.parametrize(
    ("does", "promise", "kind", "says"),
    [
        (noise, Promise(0.9, 25), "wrong", " dB"),
        (change_the_given, Promise(0.9), "wrong", "the model that was given has changed"),
        (change_the_mode, Promise(0.9), "wrong", "the model that was given has changed"),
        (refuse, Promise(0.9), "refused", "cannot do this"),
        (refuse_too_late, Promise(0.9), "wrong", "the model that was given has changed"),
        (fail, Promise(0.9), "wrong", "RuntimeError: somewhere in torch"),
        (remember, Promise(0.9), "wrong", "answers otherwise when it is loaded again"),
        (nothing, Promise(2.0), "wrong", "1.00x smaller, without a notice"),
        (say_it_is_little, Promise(2.0), "partly", "layer '0' stays as it is"),
        (say_it_is_far, Promise(2.0), "wrong", "1.00x smaller, without a notice"),
        (say_it_is_far, Promise(0.9, 25), "partly", "less near than usual"),
        (say_something_else, Promise(2.0), "wrong", "1.00x smaller, without a notice"),
        (noise, Promise(0.9, rounds_weights=True), "right", ""),
        (remember, Promise(0.9, rounds_weights=True), "wrong", "to the model with the weights that its layers show"),
        (remember, Promise(0.9, is_masked="weights"), "wrong", "differs from the model with its weights"),
        (nothing, Promise(0.9, 25, is_masked="weights"), "right", ""),
    ],
)
def test_a_trial_finds_what_was_planted(does, promise, kind, says):
    outcome = planted(does, promise)
    assert (outcome.kind, says in outcome.says) == (kind, True), outcome


def test_units_that_do_not_equal_their_mask_are_found():
    class Wrong(Structured):
        def apply(self, model, *, data=None):
            result = super().apply(model, data=data)
            with torch.no_grad():
                result[2].weight.mul_(1.01)
            return result

    found = [examined(MLP, "s", kind(0.5, 0.5), PROMISES["structured-50"]) for kind in (Structured, Wrong)]
    assert [outcome.kind for outcome in found] == ["right", "wrong"]
    assert "differs from the masked model" in found[1].says


@pytest.mark.parametrize("technique", [Int8Dynamic(), Magnitude(0.5)])
def test_ours_are_right_for_a_plain_model(technique):
    assert trial(MLP, technique.name).kind == "right"


def test_what_differs_from_the_list_is_said(monkeypatch):
    monkeypatch.setitem(KNOWN, "a kernel of another machine", (("Bert", "bf16"),))
    new = Outcome("Bert", "int8-dynamic", "wrong", "1.0 dB")
    assert differences([new]) == ["Bert, int8-dynamic: 1.0 dB"]
    assert "take it from" in differences([Outcome("Bert", "bf16", "right")])[0]
    assert differences([Outcome("Bert", "bf16", "wrong", "as ever")]) == []


def test_the_page_counts_and_shares():
    outcomes = [
        Outcome("A", "int8-dynamic", "right", "", 40.0, 3.9),
        Outcome("B", "int8-dynamic", "partly", "much is left", 40.0, 2.0),
        Outcome("A", "structured-50", "right", "", 3.0, 1.8, True),
        Outcome("B", "structured-50", "wrong", "differs"),
    ]
    page = "\n".join(lines({"family": ["A", "B"]}, ["int8-dynamic", "structured-50"], outcomes))
    assert "| `int8-dynamic` | 1 | 1 | 0 | 0 |" in page
    assert "| `structured-50` | 1 | 0 | 0 | 1 |" in page
    assert "at least 3.5x smaller for 1 of 2 models (50%)" in page
    assert "at least 1.5x smaller for 1 of 2 models (50%)" in page
    assert "| A | = 3.9x 40 dB | = 1.8x |" in page
    assert "| B | ~ 2.0x 40 dB | WRONG |" in page
    assert "- B, `structured-50`: differs" in page
