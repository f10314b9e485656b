import pytest
import torch
from hypothesis import given
from torch import nn

from perfsuite import Precision
from perfsuite.errors import TechniqueError
from perfsuite.models.encoder import TransformerEncoder
from perfsuite.models.seeding import seeded
from perfsuite.techniques.precision.cast import cast_floats
from perfsuite.testing import float_tensors


@pytest.mark.parametrize(("name", "bits", "smallest"), [("fp16", 11, 2.0**-14), ("bf16", 8, 2.0**-120)])
def test_relative_error_of_weights(name, bits, smallest):
    @given(float_tensors())
    def holds(x):
        x = x.clamp(-60000, 60000)
        model = nn.Linear(x.shape[1], x.shape[0], bias=False)
        model.weight = nn.Parameter(x)
        cast = Precision(name).apply(model).weight.double()
        normal = x.abs().double() >= smallest
        error = (cast - x.double()).abs()
        assert bool((error[normal] <= 2.0**-bits * x.double().abs()[normal]).all())

    holds()


def test_weights_beyond_fp16_are_reported_not_made_infinite():
    model = nn.Linear(2, 2)
    nn.init.constant_(model.weight, 70000.0)
    with pytest.raises(TechniqueError, match="'weight' holds values beyond 65504"):
        Precision("fp16").apply(model)
    assert bool(Precision("bf16").apply(model).weight.isfinite().all())


@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_inside_is_half_outside_is_the_callers(name):
    with seeded(0):
        model = TransformerEncoder(20, 8, 2, 1, 16, dropout=0.0).eval()
    half = Precision(name).apply(model)
    assert {p.dtype for p in half.parameters()} == {{"bf16": torch.bfloat16, "fp16": torch.float16}[name]}
    tokens, padding = torch.randint(0, 20, (2, 6)), torch.tensor([[False] * 6, [False] * 3 + [True] * 3])
    with torch.no_grad():
        out = half(tokens, key_padding_mask=padding)
    assert out.dtype is torch.float32
    assert bool(out.isfinite().all())


def test_a_model_without_floats_is_refused():
    with pytest.raises(TechniqueError, match="no floating-point parameter"):
        Precision("bf16").apply(nn.ReLU())


def test_nested_outputs_are_cast_back():
    x = torch.ones(2, dtype=torch.float16)
    nested = cast_floats({"a": (x, [x, 3]), "b": None, "c": torch.ones(1, dtype=torch.int64)}, torch.float32)
    assert nested["a"][0].dtype is torch.float32
    assert nested["a"][1][0].dtype is torch.float32
    assert nested["a"][1][1] == 3
    assert nested["c"].dtype is torch.int64


def test_infinite_masks_are_kept_and_masks_that_would_overflow_are_reported():
    model = nn.Linear(2, 2)
    model.register_buffer("mask", torch.tensor([0.0, -float("inf")]))
    assert Precision("fp16").apply(model).mask.tolist() == [0.0, -float("inf")]
    model.register_buffer("large", torch.tensor([-1e9]))
    with pytest.raises(TechniqueError, match="'large' holds values beyond 65504"):
        Precision("fp16").apply(model)
