"""ONNX Runtime on the CPU: an ONNX file, in a session that optimizes its graph. Extra ``onnxruntime``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfsuite.errors import TechniqueError
from perfsuite.optional import optional, require
from perfsuite.protocols import Inputs, Operators, Program
from perfsuite.temporary import temporary_folder

if TYPE_CHECKING:
    from torch import Tensor, nn

    from perfsuite.export.signature import Signature

NAME = "onnxruntime"
PACKAGES = (NAME, "onnx", "onnxscript")
_INTEGER = ("MatMulInteger", "DynamicQuantizeMatMul", "QLinearMatMul", "QGemm", "MatMulIntegerToFloat", "ConvInteger")
_FLOAT = ("MatMul", "Gemm", "FusedMatMul", "FusedGemm", "Conv", "FusedConv", "ConvTranspose")
_LEADS_ON = ("DequantizeLinear", "Transpose", "Cast")  # from weights to a product that was not fused with them
_QUIET = 3  # errors alone


@dataclass(frozen=True)
class OnnxRuntime:
    """``load`` writes ``model.onnx``. Its threads are torch's own number, and stop spinning when a call is over."""

    name: str = NAME
    optimized: bool = True  # whether the graph is; else to find out whether its optimizer is right

    def check(self) -> None:
        require(PACKAGES, f"the runtime {NAME!r}", extra=NAME)

    def load(self, module: nn.Module, inputs: Inputs, folder: Path) -> Program:
        from perfsuite.export.lowering import Dialect
        from perfsuite.export.onnx import write_onnx

        self.check()
        _check_integers(module)
        return self.open(folder, write_onnx(module, inputs, Dialect(NAME), folder))

    def open(self, folder: Path, signature: Signature) -> Program:
        """A program of the file in the folder.

        Raises UnavailableError without onnxruntime, TechniqueError for an operator that it has not for some dtype.
        """
        from perfsuite.export.files import deployed
        from perfsuite.export.onnx import FILE
        from perfsuite.runtimes.exported import ExportedCall

        runtime = optional(NAME, f"the runtime {NAME!r}", extra=NAME)
        session = _session(runtime, folder / FILE, self.optimized)
        names = [argument.name for argument in signature.inputs]
        return Program(
            ExportedCall(signature, partial(_run, session, names)),
            deployed(folder),
            {NAME: runtime.__version__},
            operators=partial(_operators, folder / FILE, self.optimized),
        )


def _check_integers(module: nn.Module) -> None:
    """Raises TechniqueError where the products of a model's integers would not fit into what this CPU adds them in."""
    from perfsuite.techniques.quantization.layers import Int8Linear

    if any(isinstance(layer, Int8Linear) for layer in module.modules()) and _saturates():
        raise TechniqueError(
            f"{NAME} adds products of int8 in 16 bits on this CPU, where they do not fit: answers would be wrong",
            "run it on a CPU with VNNI, or choose 'weight-only-8', or the runtime 'openvino'",
        )


@cache
def _saturates() -> bool:
    """Whether sums of the largest products are wrong: on x86 CPUs without VNNI they are, in silence."""
    import numpy as np
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    weight = np.full((_LENGTH, 1), 127, np.int8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "weight"], ["y"])], "extreme",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [1, _LENGTH])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [1, 1])], [numpy_helper.from_array(weight, "weight")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": np.full((1, _LENGTH), 255, np.uint8)})
    return int(found[0, 0]) != 255 * 127 * _LENGTH


_LENGTH = 64


def _session(runtime: Any, file: Path, optimized: bool) -> Any:
    try:
        return runtime.InferenceSession(file, _options(optimized), providers=["CPUExecutionProvider"])
    except runtime.capi.onnxruntime_pybind11_state.NotImplemented as error:
        raise TechniqueError(
            f"{NAME} cannot compute the model: {str(error).rpartition(' : ')[2]}",
            "gate the model in float32 (model.float()), for which it has the most operators, or on another runtime",
        ) from error


def _run(session: Any, names: Sequence[str], tensors: Sequence[Tensor]) -> list[Any]:
    feed = {name: tensor.detach().numpy() for name, tensor in zip(names, tensors, strict=True)}
    found: list[Any] = session.run(None, feed)
    return found


def _options(optimized: bool) -> Any:
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = _QUIET
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.force_spinning_stop", "1")  # else they take the cores of what is next
    return options


def _operators(file: Path, optimized: bool) -> Operators:
    """Of the graph that is left after optimization, which the runtime is asked to write."""
    import onnx
    import onnxruntime

    with temporary_folder("optimized") as folder:
        options = _options(optimized)
        options.optimized_model_filepath = str(folder / "optimized.onnx")
        onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        graph = onnx.load(folder / "optimized.onnx", load_external_data=False).graph
    weights = {tensor.name: onnx.TensorProto.DataType.Name(tensor.data_type).lower() for tensor in graph.initializer}
    layers: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    for node in graph.node:
        if node.op_type in _LEADS_ON and node.input[0] in weights:
            weights[node.output[0]] = "float"
        weight = next((weights[name] for name in node.input[1:] if name in weights), "")
        precision = _precision(node, weight)
        calls[f"{node.op_type} {precision}" if precision else node.op_type] += 1
        layers.update([precision] if precision else [])
    return Operators(calls, layers)


def _precision(node: Any, weight: str) -> str:
    """In which a node multiplies with weights; empty of one that does not."""
    if node.op_type in _INTEGER and weight:
        return "int8"
    if node.op_type == "MatMulNBits":
        return f"float on {next(a.i for a in node.attribute if a.name == 'bits')} bits"
    return weight if node.op_type in _FLOAT else ""


RUNTIME = OnnxRuntime()
