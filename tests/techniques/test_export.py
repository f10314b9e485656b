"""What people do with a model afterwards: copy, move, export and compile it."""

import copy

import pytest
import torch
from torch import nn

from perfsuite import Precision
from perfsuite.models.encoder import TransformerEncoder
from perfsuite.models.seeding import seeded
from perfsuite.protocols import Inputs
from perfsuite.storage import load, save
from perfsuite.techniques.precision.autocast import MixedPrecisionWrapper
from perfsuite.techniques.precision.cast import cast_floats
from perfsuite.techniques.quantization import kernels
from perfsuite.techniques.values import parse_technique
from perfsuite.testing.contract import run, state_bytes

NAMES = ["int8-dynamic", "int8-static", "structured-50+int8-dynamic", "weight-only-4"]
TOKENS = torch.arange(18).reshape(2, 9)


def small(name):
    with seeded(0):
        model = TransformerEncoder(50, 16, 4, 2, 32, dropout=0.0, max_seq_length=16, num_classes=3).eval()
    return parse_technique(name).apply(model, data=[TOKENS])


def relative_error(one, other):
    return float((one.double() - other.double()).norm() / one.double().norm())


@pytest.mark.parametrize("name", NAMES)
def test_a_deep_copy_is_equal_and_independent(name):
    model = small(name)
    expected, before = run(model, Inputs((TOKENS,))), state_bytes(model)
    twin = copy.deepcopy(model)
    assert torch.equal(run(twin, Inputs((TOKENS,))), expected)
    for tensor in twin.state_dict().values():
        tensor.zero_()
    assert state_bytes(model) == before
    assert torch.equal(run(model, Inputs((TOKENS,))), expected)


@pytest.mark.parametrize("name", NAMES)
def test_an_exported_program_computes_the_same(name):
    model = small(name)
    program = torch.export.export(model, (TOKENS,)).module()
    assert torch.equal(program(TOKENS), model(TOKENS))


@pytest.mark.parametrize("name", ["int8-dynamic", "int8-static"])
def test_an_exported_program_takes_any_batch_and_length(name):
    model, auto = small(name), torch.export.Dim.AUTO
    program = torch.export.export(model, (TOKENS,), dynamic_shapes=({0: auto, 1: auto},)).module()
    for shape in ((2, 9), (7, 5), (40, 16)):
        tokens = torch.arange(shape[0] * shape[1]).reshape(shape) % 50
        assert torch.equal(program(tokens), model(tokens))


@pytest.mark.parametrize("name", ["int8-dynamic", "int8-static"])
def test_the_first_thing_a_process_does_may_be_an_export(name, monkeypatch):
    """A pickled model, or one that was moved to another device: no call has chosen the kernel yet."""
    model = small(name)
    monkeypatch.setattr(kernels, "_chosen", {})
    program = torch.export.export(model, (TOKENS,)).module()
    assert torch.equal(program(TOKENS), model(TOKENS))


@pytest.mark.parametrize("name", ["int8-dynamic", "weight-only-4"])
def test_torch_compile_gives_the_same(name):
    model = small(name)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager")
    with torch.no_grad():
        for tokens in (TOKENS, TOKENS[:1]):
            assert torch.equal(compiled(tokens), model(tokens))


@pytest.mark.parametrize("name", ["int8-dynamic", "weight-only-4"])
def test_torch_compile_takes_the_whole_model_as_one_graph(name):
    """A graph break at each layer costs more than compiling gains."""
    model = small(name)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with torch.no_grad():
        assert torch.equal(compiled(TOKENS), model(TOKENS))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_models_can_be_moved_to_another_dtype(name, dtype):
    model = small(name)
    expected = run(model, Inputs((TOKENS,)))
    output = run(copy.deepcopy(model).to(dtype), Inputs((TOKENS,)))
    assert output.dtype is dtype
    assert bool(output.isfinite().all())
    assert relative_error(expected, output) < (1e-6 if dtype is torch.float64 else 0.03)


@pytest.mark.parametrize("name", ["int8-dynamic", "weight-only-4"])
def test_a_model_that_was_moved_to_another_dtype_can_be_saved_and_loaded(name, tmp_path):
    moved = small(name).to(torch.bfloat16)
    again = load(save(moved, tmp_path / "saved"))
    assert torch.equal(run(again, Inputs((TOKENS,))), run(moved, Inputs((TOKENS,))))


@pytest.mark.parametrize("name", ["fp16", "bf16"])
def test_half_precision_can_be_moved_to_another_dtype(name):
    """The hooks that cast inputs must follow the weights."""
    with seeded(0):
        half, x = Precision(name).apply(nn.Sequential(nn.Linear(8, 4))), torch.randn(3, 8)
    expected = run(half, Inputs((x,)))
    for dtype in (torch.float32, torch.float64):
        output = run(copy.deepcopy(half).to(dtype), Inputs((x,)))
        assert relative_error(expected, output) < 0.02


@pytest.mark.parametrize("name", NAMES)
def test_shapes_can_be_worked_out_without_memory(name):
    """On the meta device nothing is computed."""
    output = small(name).to("meta")(TOKENS.to("meta"))
    assert output.is_meta
    assert output.shape == (2, 3)


def test_a_copy_of_a_model_under_autocast_is_still_under_autocast():
    """Also where the model inside has a __deepcopy__ of its own, as traced ones have."""
    with seeded(0):
        wrapped = Precision("bf16", autocast=True).apply(torch.fx.symbolic_trace(nn.Sequential(nn.Linear(8, 4))))
    twin = copy.deepcopy(wrapped)
    assert isinstance(twin, MixedPrecisionWrapper)
    assert torch.equal(run(twin, Inputs((torch.ones(1, 8),))), run(wrapped, Inputs((torch.ones(1, 8),))))


def test_outputs_in_a_dict_that_is_keyed_by_numbers_are_cast():
    """As detection models return for their levels."""
    cast = cast_floats({0: torch.ones(2), 1: torch.ones(2)}, torch.float16)
    assert {key: value.dtype for key, value in cast.items()} == {0: torch.float16, 1: torch.float16}
