"""Layers that a model also reaches past its tree of modules: what is called is what was put in their place."""

import collections
import copy
import functools
from types import MethodType

import pytest
import torch
from torch import nn

from perfsuite.errors import TechniqueError
from perfsuite.measure.outputs import fidelity
from perfsuite.models.seeding import seeded
from perfsuite.protocols import Inputs
from perfsuite.storage import load, save
from perfsuite.techniques.common import replace_modules
from perfsuite.techniques.quantization.readable import QuantizedLayer
from perfsuite.techniques.references import check_functions
from perfsuite.techniques.values import parse_technique
from perfsuite.techniques.wrappers import unwrapped
from perfsuite.testing.contract import run

Pair = collections.namedtuple("Pair", "first second")
BY_CALLS = ("int8-static",)  # sees what a call of the model does
NAMES = ["int8-dynamic", "int8-static", "weight-only-8", "structured-50"]
X = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))


class Plain:
    """No module."""

    def __init__(self, layer):
        self.layer = layer


class Reached(nn.Module):
    """Calls its two layers through what ``put`` has made of them, and ``take`` finds in it."""

    def __init__(self, put, take):
        super().__init__()
        self.one, self.two = nn.Linear(16, 16), nn.Linear(16, 16)
        self.held, self.take = put(self.one, self.two), take

    def forward(self, x):
        one, two = self.take(self.held)
        return two(torch.relu(one(x)))


WAYS = {
    "list": (lambda a, b: [a, b], lambda held: held),
    "tuple": (lambda a, b: (a, b), lambda held: held),
    "dict": (lambda a, b: {"a": a, "b": b}, lambda held: held.values()),
    "keys": (lambda a, b: {a: 0, b: 1}, lambda held: held),
    "nested": (lambda a, b: [{"x": [(a,), {"y": b}]}], lambda held: (held[0]["x"][0][0], held[0]["x"][1]["y"])),
    "namedtuple": (Pair, lambda held: (held.first, held.second)),
    "partial": (lambda a, b: (functools.partial(a), functools.partial(b)), lambda held: held),
    "method": (lambda a, b: (a.forward, b.forward), lambda held: held),
    "object": (lambda a, b: (Plain(a), Plain(b)), lambda held: [each.layer for each in held]),
    "module beside the tree": (lambda a, b: [nn.Sequential(a, b)], lambda held: held[0]),
    "set": (lambda a, b: ({a}, frozenset([b])), lambda held: [next(iter(each)) for each in held]),
}


@pytest.mark.parametrize(("put", "take"), WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("name", NAMES)
def test_what_is_reached_is_what_was_put_in_its_place(name, put, take, tmp_path):
    with seeded(0):
        model = Reached(put, take).eval()
    before = run(model, Inputs((X,)))
    if isinstance(model.held[0] if isinstance(model.held, tuple) else None, MethodType) and name in BY_CALLS:
        with pytest.raises(TechniqueError):  # what calls a method past its module is not seen
            parse_technique(name).apply(model, data=[X])
        return
    changed = parse_technique(name).apply(model, data=[X])
    after = run(changed, Inputs((X,)))
    assert torch.equal(run(model, Inputs((X,))), before)
    if name != "structured-50":
        called = {type(layer) for layer in take(changed.held) if isinstance(layer, nn.Module)}
        assert nn.Linear not in called
        assert 30 < fidelity(before.double(), after.double())["sqnr"] < 100
    with seeded(1):
        fresh = Reached(put, take)
    assert torch.equal(run(load(save(changed, tmp_path / "saved"), model=fresh), Inputs((X,))), after)


@pytest.mark.parametrize("name", NAMES)
def test_the_lists_of_the_given_model_are_not_touched(name):
    with seeded(0):
        model = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16)).eval()
    model.held = [model[0], {"b": model[2]}]
    parse_technique(name).apply(model, data=[X])
    assert model.held[0] is model[0]
    assert model.held[1]["b"] is model[2]


def test_an_attribute_that_is_the_layer_itself():
    model = nn.Sequential(nn.Linear(16, 16))
    object.__setattr__(model, "again", model[0])
    changed = parse_technique("int8-dynamic").apply(model)
    assert changed.again is changed[0]
    assert isinstance(changed.again, QuantizedLayer)


@pytest.mark.parametrize("name", ["int8-dynamic", "int8-static", "weight-only-8"])
@pytest.mark.parametrize("where", ["child", "root", "attention"])
def test_a_compiled_layer_runs_what_was_put_inside(name, where, tmp_path):
    def built():
        inner = nn.Linear(16, 16) if where != "attention" else nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        compiled = torch.compile(inner, backend="eager")
        return (compiled if where == "root" else nn.Sequential(nn.Linear(16, 16), compiled)).eval()

    with seeded(0):
        model = built()
    x = X if where != "attention" else X[:, None]
    changed = parse_technique(name).apply(model, data=[x])
    before, after = run(model, Inputs((x,))), run(changed, Inputs((x,)))
    assert 30 < fidelity(before.double(), after.double())["sqnr"] < 100
    with seeded(1):
        fresh = unwrapped(built())
    torch.testing.assert_close(run(load(save(changed, tmp_path / "saved"), model=fresh), Inputs((x,))), after)


class Made(nn.Module):
    """Calls its layer through a function that was made with it."""

    def __init__(self, make):
        super().__init__()
        self.layer = nn.Linear(16, 16)
        self.call = make(self)

    def forward(self, x):
        return self.call(x)


FUNCTIONS = {
    "lambda": lambda model: lambda x: model.layer(x),
    "of the layer": lambda model: (lambda layer: lambda x: layer(x))(model.layer),
    "default": lambda model: lambda x, layer=model.layer: layer(x),
    "of a list": lambda model: (lambda layers: lambda x: layers[0](x))([model.layer]),
    "in a list": lambda model: functools.partial(lambda first, x: first[0](x), [lambda x: model.layer(x)]),
    "compiled": lambda model: torch.compile(model.layer.forward, backend="eager"),
}


@pytest.mark.parametrize("make", FUNCTIONS.values(), ids=FUNCTIONS)
@pytest.mark.parametrize("name", [*NAMES, "magnitude-50", "bf16"])
def test_a_function_that_holds_layers_is_refused_because_a_copy_has_the_same(name, make):
    model = Made(make)
    before = copy.copy(vars(model))
    with pytest.raises(TechniqueError, match="function that was made with layers") as error:
        parse_technique(name).apply(model, data=[X])
    assert "method" in error.value.remedy
    assert vars(model) == before


def test_a_hook_that_holds_layers_is_refused():
    model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16))
    model[0].register_forward_hook(lambda module, args, output: model[1](output))
    with pytest.raises(TechniqueError, match="a hook"):
        parse_technique("int8-dynamic").apply(model)


def test_functions_that_hold_no_layers_are_no_reason_to_refuse():
    model, seen = nn.Sequential(nn.Linear(16, 16)), []
    other = nn.Linear(16, 16)
    model.norm = lambda x, power=2: x * power
    model.after = functools.partial(lambda x, by: other(x) * by, by=3)
    model[0].register_forward_hook(lambda *args: seen.append("called"))
    changed = parse_technique("int8-dynamic").apply(model)
    seen.clear()  # both are called beside each other
    changed(X)
    assert seen == ["called"]


def test_a_method_that_the_new_layer_lacks_is_refused():
    class Own(nn.Linear):
        def twice(self, x):
            return self(self(x))

    model = nn.Sequential(Own(4, 4))
    model.call = model[0].twice
    with pytest.raises(TechniqueError, match="'twice'"):
        replace_modules(model, lambda layer: nn.Linear(4, 4) if isinstance(layer, Own) else layer)


def test_lists_that_hold_themselves_end():
    model = nn.Sequential(nn.Linear(4, 4))
    model.held = [model[0]]
    model.held.append((model.held,))
    model.plain = Plain(None)
    model.plain.layer = (model.plain, model)
    check_functions(model)
    changed = replace_modules(model, lambda layer: nn.Linear(4, 2) if isinstance(layer, nn.Linear) else layer)
    assert changed.held[0] is changed[0]
    assert changed.held[0].out_features == 2
    assert changed.held[1][0] is changed.held
