"""Convolutions in each runtime: our integers where it has products of them, else what they stand for."""

import pytest
import torch
from torch import nn

import perfsuite
from perfsuite.measure.outputs import fidelity
from perfsuite.models.seeding import seeded
from perfsuite.protocols import Inputs
from perfsuite.runtimes.onnxruntime import RUNTIME as ONNXRUNTIME
from perfsuite.runtimes.openvino import RUNTIME as OPENVINO
from perfsuite.testing.programs import answer, loaded
from perfsuite.testing.strategies import Sample

LEAST_DB = 55  # a value between two steps may be rounded otherwise


def net():
    with seeded(0):
        return nn.Sequential(
            nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 32, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(32, 32, 3, groups=32), nn.ConvTranspose2d(32, 64, 2, stride=2),
            nn.Conv2d(64, 16, 3, padding="same", dilation=2, bias=False), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
            nn.Linear(64, 5),
        ).eval()  # fmt: skip


X = Inputs((torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0)),))
# Of six layers, as the runtime counts them.
ON_INT8 = {
    (ONNXRUNTIME, "int8-dynamic"): 3,
    (ONNXRUNTIME, "int8-dynamic-tensor"): 3,
    (ONNXRUNTIME, "int8-static"): 3,
    (ONNXRUNTIME, "weight-only-8"): 0,
    (OPENVINO, "int8-dynamic"): 1,
    (OPENVINO, "int8-static"): 3,
    (OPENVINO, "weight-only-8"): 0,
}


@pytest.mark.parametrize(("runtime", "technique"), ON_INT8, ids=lambda value: getattr(value, "name", value))
def test_a_network_answers_as_in_torch_and_is_counted_as_it_runs(runtime, technique):
    changed = perfsuite.parse_technique(technique).apply(net(), data=[X])
    with torch.no_grad():
        expected = changed(*X.args)
    with loaded(runtime, Sample(changed, X, technique)) as program:
        found, layers = answer(program, X), program.operators().layers
    assert fidelity(expected.double(), found.double())["sqnr"] > LEAST_DB
    assert layers.get("int8", 0) == ON_INT8[runtime, technique], layers
    assert sum(layers.values()) == 6, layers
