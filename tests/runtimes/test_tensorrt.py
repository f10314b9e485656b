"""TensorRT itself is not run here. The graph that goes into it is: its grids are symmetric, and its numbers ours."""

import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from perfsuite.errors import TechniqueError, UnavailableError
from perfsuite.export.onnx import write_onnx
from perfsuite.measure.outputs import fidelity
from perfsuite.models.source import source
from perfsuite.registry import MODELS
from perfsuite.runtimes.tensorrt import RUNTIME, dialect
from perfsuite.techniques.values import parse_technique


def graph_of(folder, technique):
    """The file, the model's answer, and that of the file in ONNX Runtime without optimization: Q/DQ as they stand."""
    origin = source(MODELS.get("encoder-small"), seed=0)
    model = parse_technique(technique).apply(origin.module, data=origin.calibration(2, 0)).eval()
    inputs = origin.inputs(2, 0, torch.device("cpu"))
    write_onnx(model, inputs, dialect(), folder)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: inputs.args[0].numpy()})
    with torch.no_grad():
        return onnx.load(folder / "model.onnx").graph, model(*inputs.args), torch.from_numpy(found)


@pytest.mark.parametrize("technique", ["int8-static", "structured-50+int8-static"])
def test_all_grids_are_signed_with_zero_in_the_middle_and_the_answers_are_ours(tmp_path, technique):
    graph, expected, found = graph_of(tmp_path, technique)
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    zeros = [values[node.input[2]] for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(zeros) >= 2 * 12
    assert {str(zero.dtype) for zero in zeros} == {"int8"}
    assert not any(zero.any() for zero in zeros)
    assert fidelity(expected.double(), found.double())["sqnr"] >= 30


def test_what_is_quantized_on_the_fly_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(TechniqueError, match="quantized on the fly") as caught:
        graph_of(tmp_path, "int8-dynamic")
    assert "int8-static" in caught.value.remedy


def test_without_the_package_or_a_gpu_it_says_which():
    with pytest.raises(UnavailableError, match=r"needs (tensorrt|an NVIDIA GPU)"):
        RUNTIME.check()
