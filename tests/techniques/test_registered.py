"""The name under which a technique is registered is its identity; what a model records is the technique."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from perfsuite import Int8Dynamic, Magnitude
from perfsuite.errors import StorageError
from perfsuite.models.zoo import model_spec
from perfsuite.plugin.matrix import CaseParameters
from perfsuite.protocols import Technique
from perfsuite.registry import TECHNIQUES
from perfsuite.session.measurable import ModelCase
from perfsuite.storage import load, save
from perfsuite.techniques.common import copy_finite
from perfsuite.techniques.quantization.layers import Int8Linear
from perfsuite.techniques.recorded import provenance
from perfsuite.techniques.values import Pipeline, applied, parse_technique

KEEP = Int8Dynamic(exclude=("head",))


@dataclass(frozen=True)
class Halved:
    """A technique from outside, which calls itself something else and keeps no record."""

    name: str = "divided-by-two"

    def apply(self, model, *, data=None):
        model = copy_finite(model)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(0.5)
        return model

    def skeleton(self, model):
        return model


@pytest.fixture
def registry():
    made = TECHNIQUES.copy()
    made.register("int8-keep-head", lambda argument: KEEP)
    made.register("int8-dynamic-keep", lambda argument: replace(KEEP, exclude=(argument or "head",)))
    made.register("both", lambda argument: Pipeline((Magnitude(0.5), KEEP)))
    made.register("halved", lambda argument: Halved())
    made.register("round", lambda argument: replace(Halved(), name=f"round-{int(argument or 2)}"))
    made.register("forgets", lambda argument: replace(Halved(), name="forgets"))
    return made


def key_of(name, registry):
    spec, technique = model_spec("encoder-small"), parse_technique(name, registry)
    keys = {ModelCase(spec, technique, "cpu", 1, seed=0).case.key, CaseParameters(spec, technique, "cpu", 1).id}
    assert isinstance(technique, Technique)
    assert hash(technique) == hash(parse_technique(name, registry))
    return keys


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ("int8-keep-head", "int8-keep-head"),
        ("int8-dynamic-keep", "int8-dynamic-keep"),
        ("int8-dynamic-keep-tail", "int8-dynamic-keep-tail"),
        ("int8-dynamic", "int8-dynamic"),
        ("structured-50+int8-keep-head", "structured-50+int8-keep-head"),
        ("int8-keep-head+halved", "int8-keep-head+halved"),
        ("both", "both"),
        ("halved", "halved"),
        ("round", "round-2"),  # a name of its own that its family gives it is kept, as ever
        ("round-3", "round-3"),
        ("forgets-one", "forgets-one"),
        ("weight-only", "weight-only-4"),
        ("int8-static-minmax", "int8-static"),
    ],
)
def test_a_case_has_the_name_that_was_registered(asked, named, registry):
    assert key_of(asked, registry) == {f"encoder-small/{named}/cpu/b1"}


def small():
    torch.manual_seed(0)
    model = nn.Sequential()
    model.add_module("body", nn.Linear(32, 32))
    model.add_module("head", nn.Linear(32, 4))
    return model.eval()


X = torch.linspace(-1, 1, 64).view(2, 32)


@pytest.mark.parametrize("name", ["int8-keep-head", "magnitude-50+int8-keep-head", "both", "int8-keep-head+halved"])
def test_a_model_is_saved_with_what_was_done_and_loaded_again(name, registry, tmp_path):
    technique = parse_technique(name, registry)
    model = applied(technique, small())
    assert isinstance(model.body, Int8Linear)
    assert isinstance(model.head, nn.Linear)
    known = None if "halved" not in name else technique
    for given in (None, technique):
        folder = save(model, tmp_path / f"saved-{given is None}", given)
        again = load(folder, small(), known or given)
        assert torch.equal(again(X), model(X))
        assert provenance(again) == provenance(model)


def test_a_record_names_the_technique_itself_with_its_config(registry):
    steps = provenance(applied(parse_technique("magnitude-50+int8-keep-head", registry), small()))
    assert [step.technique for step in steps] == ["magnitude-50", "int8-dynamic"]
    assert steps[1].config["exclude"] == ["head"]


def test_what_keeps_no_record_is_recorded_under_the_registered_name(registry, tmp_path):
    technique = parse_technique("halved", registry)
    model = technique.apply(small())
    assert [step.technique for step in provenance(model)] == ["halved"]
    folder = save(model, tmp_path / "saved")
    assert torch.equal(load(folder, small(), technique)(X), model(X))
    with pytest.raises(StorageError, match="was saved with technique 'halved', not 'divided-by-two'"):
        load(folder, small(), Halved())
