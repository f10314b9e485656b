"""OpenVINO on the CPU, from the same ONNX graph, as its own two files. Extra ``openvino``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfsuite.optional import optional, require
from perfsuite.protocols import Inputs, Operators, Program

if TYPE_CHECKING:
    from torch import Tensor, nn

    from perfsuite.export.signature import Signature

NAME = "openvino"
PACKAGES = (NAME, "onnx", "onnxscript")
FILE = "model.xml"
GROUP = 32  # values of a token that share a scale, where they are quantized in the kernel; OpenVINO's own default
_GROUP_SIZE = "DYNAMIC_QUANTIZATION_GROUP_SIZE"
_ENDS = ("Input", "Output", "Const")  # how a graph begins and ends is no work
_CONVOLUTIONS = ("Convolution", "Deconvolution")
_BYTES = ("i8", "u8")
_INTEGERS = {"i8": 8, "u8": 8, "i4": 4, "u4": 4}


@dataclass(frozen=True)
class OpenVino:
    """``load`` writes ``model.xml`` and ``model.bin``.

    Floats are computed and stored as the model has them: by itself OpenVINO would compute in bf16 on some CPUs, and
    store in fp16. Of ``int8-dynamic``, tokens are quantized in groups of 32 values, symmetrically, which is finer than
    one scale for each token; of ``weight-only``, they are not. The file says so to whoever loads it.
    """

    name: str = NAME

    def check(self) -> None:
        require(PACKAGES, f"the runtime {NAME!r}", extra=NAME)

    def load(self, module: nn.Module, inputs: Inputs, folder: Path) -> Program:
        import torch

        from perfsuite.export.lowering import Dialect, OnTheFly
        from perfsuite.export.onnx import FILE as ONNX_FILE
        from perfsuite.export.onnx import write_onnx
        from perfsuite.temporary import temporary_folder

        self.check()
        import openvino

        with temporary_folder("onnx") as work:
            dialect = Dialect(NAME, OnTheFly.KERNEL, (torch.float32, torch.float16, torch.bfloat16))
            signature = write_onnx(module, inputs, dialect, work)
            model = _numbered(openvino.convert_model(work / ONNX_FILE))
            model.set_rt_info(str(GROUP if _is_dynamic(module) else 0), ["runtime_options", _GROUP_SIZE])
            openvino.save_model(model, folder / FILE, compress_to_fp16=False)
        return self.open(folder, signature)

    def open(self, folder: Path, signature: Signature) -> Program:
        """A program of the files in the folder. Raises UnavailableError without openvino."""
        import torch

        from perfsuite.export.files import deployed
        from perfsuite.runtimes.exported import ExportedCall

        openvino = optional(NAME, f"the runtime {NAME!r}", extra=NAME)
        settings = {**_FLOATS, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        compiled = openvino.Core().compile_model(folder / FILE, "CPU", settings)
        return Program(
            ExportedCall(signature, partial(_run, compiled.create_infer_request())),
            deployed(folder),
            {NAME: openvino.__version__.partition("-")[0]},
            operators=partial(_operators, compiled),
        )


_FLOATS = {"INFERENCE_PRECISION_HINT": "f32"}


def _is_dynamic(module: nn.Module) -> bool:
    from perfsuite.techniques.quantization.layers import Int8Linear

    return any(type(layer) is Int8Linear for layer in module.modules())


def _numbered(model: Any) -> Any:
    """With names that count from the first operator of the model, not of the process: its file is always the same."""
    for number, operator in enumerate(model.get_ordered_ops()):
        operator.set_friendly_name(f"{operator.get_type_name()}_{number}")
    return model


def _run(request: Any, tensors: Sequence[Tensor]) -> list[Any]:
    arrays = [tensor.detach().numpy() for tensor in tensors]
    results = request.infer(arrays, share_inputs=True, share_outputs=True)
    return [result.copy() for result in results.values()]  # the request writes the next answer into the same memory


def _operators(compiled: Any) -> Operators:
    """Of the graph that runs, which says the precision of each node."""
    calls: Counter[str] = Counter()
    layers: Counter[str] = Counter()
    in_kernel = compiled.get_property(_GROUP_SIZE) != 0
    for node in compiled.get_runtime_model().get_ops():
        said = node.get_rt_info()
        kind, precision = said["layerType"].astype(str), said["runtimePrecision"].astype(str)
        if kind == "FullyConnected":
            precision = _precision(
                precision, [entry.get_element_type().get_type_name() for entry in node.inputs()], in_kernel=in_kernel
            )
            layers[precision] += 1
        elif kind in _CONVOLUTIONS:
            layers["int8" if precision in _BYTES else precision] += 1
        if kind not in _ENDS:
            calls[f"{kind} {precision}"] += 1
    return Operators(calls, layers)


def _precision(said: str, types: Sequence[str], *, in_kernel: bool) -> str:
    """In which a product computes: what is said of one with dequantized weights is the precision of these alone."""
    activation, weight = (_INTEGERS.get(name) for name in types[:2])
    if weight is None:
        return said
    if activation is not None or (in_kernel and _quantizes_in_kernel()):
        return "int8" if weight == 8 else f"int8 on {weight} bits"
    return f"float on {weight} bits"


@cache
def _quantizes_in_kernel() -> bool:
    """Whether this CPU has such kernels. Nothing says so, but they answer otherwise than kernels on floats do."""
    import numpy as np
    import openvino
    from openvino import opset13 as ops

    random = np.random.default_rng(0)
    x = ops.parameter([-1, 4 * GROUP], np.float32)
    weights = ops.constant(random.integers(-127, 128, (4 * GROUP, 4 * GROUP)).astype(np.int8))
    scale = ops.constant(np.full((4 * GROUP, 1), 0.01, np.float32))
    product = ops.matmul(x, ops.multiply(ops.convert(weights, np.float32), scale), False, True)
    model, given = openvino.Model([product], [x]), random.standard_normal((2, 4 * GROUP)).astype(np.float32)
    settings = [{**_FLOATS, _GROUP_SIZE: size} for size in (GROUP, 0)]
    found = [openvino.Core().compile_model(model, "CPU", each)(given)[0] for each in settings]
    return bool(np.abs(found[0] - found[1]).max() > _ROUNDING * np.abs(found[1]).max())


_ROUNDING = 1e-4  # of floats, summed in another order, it is 1e-6; of values on 8 bits 1e-2


RUNTIME = OpenVino()
