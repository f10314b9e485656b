"""What techniques cannot copy or change is refused with one sentence, before anything is changed; the remedy works."""

import threading

import pytest
import torch
import torch.nn.utils.prune
from torch import nn

from perfsuite import parse_technique
from perfsuite.errors import TechniqueError
from tests.techniques.small import mlp, randn

EVERY = ("fp32", "int8-dynamic", "weight-only-4", "magnitude-50", "structured-50", "bf16", "bf16-autocast")
OLD_NORMS = "ignore:`torch.nn.utils.weight_norm` is deprecated"
OLD_SCRIPTS = "ignore:.*torch.jit.*is deprecated"
pytestmark = [pytest.mark.filterwarnings(OLD_NORMS), pytest.mark.filterwarnings(OLD_SCRIPTS)]


def called(model):
    model(randn(2, 4))
    return model


def lazy():
    return nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(4))


def meta():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4).to("meta"))


def offloaded():
    """As accelerate leaves a module whose weights are elsewhere."""
    model = meta()
    model[2]._hf_hook = object()
    return model


def weight_norm():
    return called(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), torch.nn.utils.weight_norm(nn.Linear(8, 4))))


def spectral_norm():
    return called(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), torch.nn.utils.spectral_norm(nn.Linear(8, 4))))


def masked():
    model = mlp(4, 8, 4)
    torch.nn.utils.prune.l1_unstructured(model[2], "weight", 0.5)
    return called(model)


def caching(container=lambda x: x):
    model = mlp(4, 8, 4)
    model[2].last = container(model[2](randn(2, 8)))
    return model


def locking():
    model = mlp(4, 8, 4)
    model[2].lock = threading.Lock()
    return model


def scripted():
    return torch.jit.script(mlp(4, 8, 4))


def partly_scripted():
    return nn.Sequential(nn.Linear(4, 4), scripted())


REFUSED = [
    (lazy, "'0.weight' is not initialised", "called(model)"),
    (meta, "'2.weight' is on the meta device", "model.to_empty(device='cpu')"),
    (offloaded, "'2.weight' has no values here: accelerate has offloaded them", ""),
    (weight_norm, "'weight' of '2' was computed in a forward pass", "torch.nn.utils.remove_weight_norm("),
    (spectral_norm, "'weight' of '2' was computed in a forward pass", "torch.nn.utils.remove_spectral_norm("),
    (masked, "'weight' of '2' was computed in a forward pass", "torch.nn.utils.prune.remove("),
    (caching, "'last' of '2' was computed in a forward pass", ".last = None"),
    (lambda: caching(lambda x: [x]), "'last' of '2' was computed in a forward pass", ".last = None"),
    (lambda: caching(lambda x: {"x": x}), "'last' of '2' was computed in a forward pass", ".last = None"),
    (locking, "the Sequential cannot be copied: cannot pickle '_thread.lock' object", ""),
]


@pytest.mark.parametrize("technique", EVERY)
@pytest.mark.parametrize(("make", "words", "remedy"), REFUSED, ids=[words for _, words, _ in REFUSED])
def test_what_cannot_be_copied_is_refused_by_name(make, words, remedy, technique):
    with pytest.raises(TechniqueError, match=words) as refused:
        parse_technique(technique).apply(make())
    assert "\n" not in refused.value.what
    assert remedy.removeprefix("called(model)") in refused.value.remedy


@pytest.mark.parametrize(("make", "words", "remedy"), REFUSED, ids=[words for _, words, _ in REFUSED])
def test_the_remedy_works(make, words, remedy):
    model = make()
    with pytest.raises(TechniqueError) as refused:
        parse_technique("int8-dynamic").apply(model)
    if remedy == "called(model)":
        called(model)
    elif remedy:
        typed = refused.value.remedy.removeprefix("give it some: ").removeprefix("take it off first: ")
        exec(typed.removesuffix(", then load or initialise the weights"), {"model": model, "torch": torch})
    if remedy == "model.to_empty(device='cpu')":
        model.load_state_dict(mlp(4, 8, 4).state_dict())
    if remedy:
        assert called(parse_technique("int8-dynamic").apply(model)) is not model


@pytest.mark.parametrize("technique", ["int8-dynamic", "weight-only-4", "magnitude-50", "structured-50", "bf16"])
@pytest.mark.parametrize(("make", "name"), [(scripted, "the model"), (partly_scripted, "'1'")])
def test_what_torch_jit_holds_is_refused_by_name(make, name, technique):
    with pytest.raises(TechniqueError, match=f"{name} is scripted") as refused:
        parse_technique(technique).apply(make())
    assert "before torch.jit.script" in refused.value.remedy


@pytest.mark.parametrize("technique", ["fp32", "bf16-autocast"])
@pytest.mark.parametrize("make", [scripted, partly_scripted])
def test_what_changes_no_layer_takes_scripted_ones(make, technique):
    assert parse_technique(technique).apply(make())(randn(2, 4)).shape == (2, 4)


def test_norms_without_gradients_and_parametrizations_are_copied():
    model = nn.Sequential(nn.Linear(4, 8), torch.nn.utils.weight_norm(nn.Linear(8, 4))).requires_grad_(False)
    with torch.no_grad():
        called(model)
    assert called(parse_technique("int8-dynamic").apply(model)) is not model
    model = nn.Sequential(nn.Linear(4, 8), torch.nn.utils.parametrizations.weight_norm(nn.Linear(8, 4)))
    assert called(parse_technique("int8-dynamic").apply(called(model))) is not model
