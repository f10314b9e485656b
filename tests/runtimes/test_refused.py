"""What a runtime would compute in less than the model has, or not at all, is refused by name before it is measured."""

import pytest
import torch
from torch import nn

from perfsuite.errors import TechniqueError
from perfsuite.protocols import Inputs
from perfsuite.runtimes import onnxruntime
from perfsuite.runtimes.onnxruntime import RUNTIME as ONNXRUNTIME
from perfsuite.runtimes.openvino import RUNTIME as OPENVINO
from perfsuite.techniques.values import parse_technique

HAS_VNNI = any(torch.cpu.get_capabilities().get(word) for word in ("avx_vnni", "avx512_vnni"))

BOTH = pytest.mark.parametrize("runtime", [ONNXRUNTIME, OPENVINO], ids=lambda runtime: runtime.name)


def perceptron(dtype):
    return nn.Sequential(nn.Linear(4, 4), nn.GELU()).to(dtype).eval(), Inputs((torch.ones(2, 4, dtype=dtype),))


@BOTH
def test_bfloat16_is_refused(runtime, tmp_path):
    with pytest.raises(TechniqueError, match=rf"{runtime.name} does not (compute in|take or give) bfloat16"):
        runtime.load(*perceptron(torch.bfloat16), tmp_path)


def test_float64_is_refused_by_openvino_which_would_compute_in_float32(tmp_path):
    with pytest.raises(TechniqueError, match="openvino does not compute in float64"):
        OPENVINO.load(*perceptron(torch.float64), tmp_path)


def test_float64_is_float64_in_onnxruntime_where_it_has_the_operators(tmp_path):
    model = nn.Linear(4, 4).double().eval()
    x = torch.randn(3, 4, dtype=torch.float64)
    found = ONNXRUNTIME.load(model, Inputs((x,)), tmp_path).call(x)
    assert float((found - model(x)).abs().max()) < 1e-14


def test_an_operator_that_onnxruntime_has_not_in_float64_is_named(tmp_path):
    with pytest.raises(TechniqueError, match=r"onnxruntime cannot compute the model: .*Erf"):
        ONNXRUNTIME.load(*perceptron(torch.float64), tmp_path)


class Shifts(nn.Module):
    def forward(self, x):
        return x.long() >> x.long()


class Inside(nn.Module):
    def __init__(self):
        super().__init__()
        self.shifts = Shifts()

    def forward(self, x):
        return self.shifts(x + 1)


@BOTH
def test_an_operator_that_onnx_has_not_is_named_with_its_module(runtime, tmp_path):
    with pytest.raises(TechniqueError, match=r"in shifts \(Shifts\): .*aten.__rshift__"):
        runtime.load(Inside(), Inputs((torch.ones(2, 4),)), tmp_path)


def test_integers_that_this_cpu_would_add_wrongly_are_refused(tmp_path, monkeypatch):
    model = parse_technique("int8-dynamic").apply(nn.Sequential(nn.Linear(8, 8)).eval())
    inputs = Inputs((torch.randn(2, 8),))
    assert not (HAS_VNNI and onnxruntime._saturates())
    monkeypatch.setattr(onnxruntime, "_saturates", lambda: True)
    with pytest.raises(TechniqueError, match="adds products of int8 in 16 bits on this CPU"):
        ONNXRUNTIME.load(model, inputs, tmp_path)
    ONNXRUNTIME.load(nn.Linear(8, 8).eval(), inputs, tmp_path)


@BOTH
def test_float16_stays_the_dtype_of_the_output(runtime, tmp_path):
    model, inputs = perceptron(torch.float16)
    found = runtime.load(model, inputs, tmp_path).call(*inputs.args)
    assert found.dtype == torch.float16
    assert torch.allclose(found, model(*inputs.args), atol=5e-3)
