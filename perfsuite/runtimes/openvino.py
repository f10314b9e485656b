"""OpenVINO on the CPU, from the same ONNX graph, as its own two files. Extra ``openvino``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfsuite.optional import optional
from perfsuite.protocols import Inputs, Operators, Program

if TYPE_CHECKING:
    from torch import Tensor, nn

    from perfsuite.export.signature import Signature

NAME = "openvino"
FILE = "model.xml"
_SAME = ("Input", "Output", "Const")  # how a graph begins and ends is no work
_INTEGER = ("u8", "i8")


@dataclass(frozen=True)
class OpenVino:
    """``load`` writes ``model.xml`` and ``model.bin``.

    Floats are computed and stored as the model has them: by itself OpenVINO would compute in bf16 on some CPUs, and
    store in fp16.
    """

    name: str = NAME

    def load(self, module: nn.Module, inputs: Inputs, folder: Path) -> Program:
        import torch

        from perfsuite.export.lowering import Dialect
        from perfsuite.export.onnx import FILE as ONNX_FILE
        from perfsuite.export.onnx import write_onnx
        from perfsuite.temporary import temporary_folder

        openvino = optional(NAME, f"the runtime {NAME!r}", extra=NAME)
        with temporary_folder("onnx") as work:
            dialect = Dialect(NAME, dynamic=False, floats=(torch.float32, torch.float16))
            signature = write_onnx(module, inputs, dialect, work)
            model = _numbered(openvino.convert_model(work / ONNX_FILE))
            openvino.save_model(model, folder / FILE, compress_to_fp16=False)
        return self.open(folder, signature)

    def open(self, folder: Path, signature: Signature) -> Program:
        """A program of the files in the folder. Raises UnavailableError without openvino."""
        import torch

        from perfsuite.export.files import deployed
        from perfsuite.runtimes.exported import ExportedCall

        openvino = optional(NAME, f"the runtime {NAME!r}", extra=NAME)
        settings = {
            "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": "f32",
        }  # fmt: skip
        compiled = openvino.Core().compile_model(folder / FILE, "CPU", settings)
        request = compiled.create_infer_request()
        return Program(
            ExportedCall(signature, partial(_run, request)),
            deployed(folder),
            {NAME: openvino.__version__.partition("-")[0]},
            operators=partial(_operators, compiled),
        )


def _numbered(model: Any) -> Any:
    """With names that count from the first operator of the model, not of the process: its file is always the same."""
    for number, operator in enumerate(model.get_ordered_ops()):
        operator.set_friendly_name(f"{operator.get_type_name()}_{number}")
    return model


def _run(request: Any, tensors: Sequence[Tensor]) -> list[Any]:
    results = request.infer([tensor.detach().numpy() for tensor in tensors])
    return [result.copy() for result in results.values()]  # the request writes the next answer into the same memory


def _operators(compiled: Any) -> Operators:
    """Of the graph that runs, which says the precision of each node."""
    calls: Counter[str] = Counter()
    layers: Counter[str] = Counter()
    for node in compiled.get_runtime_model().get_ops():
        said = node.get_rt_info()
        kind, precision = said["layerType"].astype(str), said["runtimePrecision"].astype(str)
        if kind in _SAME:
            continue
        calls[f"{kind} {precision}"] += 1
        if kind == "FullyConnected":
            layers["int8" if precision in _INTEGER else precision] += 1
    return Operators(calls, layers)


RUNTIME = OpenVino()
