"""The laws of a runtime that multiplies the integers of perfsuite's quantized layers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from perfsuite.errors import TechniqueError
from perfsuite.files import bytes_of
from perfsuite.protocols import Inputs, Operators, Runtime, Technique
from perfsuite.techniques.quantization.layers import Int8Linear
from perfsuite.testing.programs import answer, loaded
from perfsuite.testing.strategies import Sample

IntegerLaw = Callable[[Runtime, Technique, Sample], None]
_INPUTS = 64


def multiplies_integers_exactly(runtime: Runtime, technique: Technique, sample: Sample) -> None:
    """At the ends of both grids: where products are added in 16 bits, pairs of them do not fit.

    Weights are +-127 steps and inputs 0 or the highest step, so that nothing is rounded, and the product is known.
    """
    extreme = _extreme_sample()
    model = technique.apply(extreme.model, data=extreme.data)
    (layer,) = (layer for layer in model.modules() if isinstance(layer, Int8Linear))
    assert set(layer.codes.abs().flatten().tolist()) == {127}, "the weights are not at the ends of their grid"
    with loaded(runtime, Sample(model, extreme.inputs, extreme.description)) as program:
        found = answer(program, extreme.inputs).double()
    weight, x = _weight(extreme.model).double(), extreme.inputs.args[0].double()
    error = (found - x @ weight.t()).abs().max()
    allowed = 1e-5 * (x.abs() @ weight.abs().t()).max()
    assert error <= allowed, f"a sum of products of integers is {error:.3g} away from the exact one: it did not fit"


def has_an_integer_product_for_each_layer(runtime: Runtime, technique: Technique, sample: Sample) -> None:
    """As many products of int8 are left in the optimized graph as layers were quantized."""
    model = technique.apply(sample.model, data=sample.data)
    quantized = sum(isinstance(layer, Int8Linear) for layer in model.modules())
    with loaded(runtime, Sample(model, sample.inputs, sample.description)) as program:
        assert program.operators is not None, "the program does not show its operators"
        found: Operators = program.operators()
    products = found.layers.get("int8", 0)
    assert products == quantized, f"{quantized} layers are quantized, and the products are {dict(found.layers)}"


def stores_the_integers(runtime: Runtime, technique: Technique, sample: Sample) -> None:
    """Files hold the int8 weights, once and as int8."""
    model = technique.apply(_large(), data=[Inputs((torch.ones(1, 512),))])
    weights = sum(layer.codes.numel() for layer in model.modules() if isinstance(layer, Int8Linear))
    with loaded(runtime, Sample(model, Inputs((torch.ones(2, 512),)), "two large layers")) as program:
        size = bytes_of(program.files)
    assert program.files, "the program has no files"
    assert weights <= size <= 1.05 * weights + 200_000, f"the files hold {size} bytes, the int8 weights are {weights}"


def refuses_the_technique(runtime: Runtime, technique: Technique, sample: Sample) -> None:
    """What it has no operators for is not computed in some other way that nobody has asked for."""
    model = technique.apply(sample.model, data=sample.data)
    with pytest.raises(TechniqueError), loaded(runtime, Sample(model, sample.inputs, sample.description)):
        raise AssertionError(f"it took a model of {technique.name}")


INTEGER_LAWS: tuple[IntegerLaw, ...] = (
    multiplies_integers_exactly,
    has_an_integer_product_for_each_layer,
    stores_the_integers,
)


def _extreme_sample() -> Sample:
    """One layer with weights of one magnitude, and inputs of one: all of them, none, every other, pairs."""
    columns = torch.arange(_INPUTS)
    ones = torch.ones(_INPUTS)
    rows = [ones, -ones, ones - 2 * (columns % 2), ones - 2 * (columns // 2 % 2), ones - 2 * (columns < 32).float()]
    layer = nn.Linear(_INPUTS, len(rows), bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.stack(rows) * 0.5)
    x = torch.stack([ones, columns % 2, columns // 2 % 2, (columns < 32), columns % 3 == 0]).float() * 3
    return Sample(nn.Sequential(layer).eval(), Inputs((x[None],)), "integers at the ends of their grids")


def _weight(model: nn.Module) -> Tensor:
    weight: Tensor = model.get_submodule("0").get_parameter("weight").detach()
    return weight


def _large() -> nn.Module:
    return nn.Sequential(nn.Linear(512, 1024), nn.ReLU(), nn.Linear(1024, 512)).eval()
