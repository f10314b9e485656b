"""TensorRT on an NVIDIA GPU, from the same ONNX graph, strongly typed: precision is what the graph says.

Not run where this was written: neither the package nor such a GPU was to be had. The graph that goes in is tested in
ONNX Runtime; what builds and calls the engine is written after the documentation of TensorRT 10 and 11.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfsuite.errors import StorageError, TechniqueError, UnavailableError
from perfsuite.optional import require
from perfsuite.protocols import Inputs, Program

if TYPE_CHECKING:
    from torch import Tensor, nn

    from perfsuite.export.lowering import Dialect
    from perfsuite.export.signature import Signature

NAME = "tensorrt"
PACKAGES = (NAME, "onnx", "onnxscript")
FILE = "model.plan"
_UNBOUNDED = 64  # times the example, of a dimension without an upper bound: an engine is tuned for ranges


@dataclass(frozen=True)
class TensorRt:
    """``load`` writes ``model.plan``, which holds for this GPU and this version of TensorRT alone.

    Of ``int8-static``, grids are made symmetric, since TensorRT has no others; ``int8-dynamic`` is refused.
    """

    name: str = NAME
    runs_machine_code: bool = True

    def check(self) -> None:
        import torch

        require(PACKAGES, f"the runtime {NAME!r}", extra=NAME)
        if not torch.cuda.is_available():
            raise UnavailableError(f"the runtime {NAME!r} needs an NVIDIA GPU, and none is seen", "run it on one")

    def built_for(self) -> dict[str, str]:
        import tensorrt
        import torch

        return {NAME: tensorrt.__version__, "gpu": torch.cuda.get_device_name()}

    def load(self, module: nn.Module, inputs: Inputs, folder: Path) -> Program:
        from perfsuite.export.onnx import FILE as ONNX_FILE
        from perfsuite.export.onnx import write_onnx
        from perfsuite.temporary import temporary_folder

        self.check()
        with temporary_folder("onnx") as work:
            signature = write_onnx(copy.deepcopy(module).cpu(), _on_cpu(inputs), dialect(), work)
            shapes = [tuple(tensor.shape) for tensor in signature.bind(inputs.args, inputs.kwargs)]
            (folder / FILE).write_bytes(_built(work / ONNX_FILE, signature, shapes))
        return self.open(folder, signature)

    def open(self, folder: Path, signature: Signature) -> Program:
        """A program of the engine in the folder. Raises StorageError for one of another GPU or version."""
        from perfsuite.export.files import deployed
        from perfsuite.runtimes.exported import ExportedCall

        self.check()
        import tensorrt

        engine = tensorrt.Runtime(_logger()).deserialize_cuda_engine((folder / FILE).read_bytes())
        if engine is None:
            raise StorageError(
                f"{folder / FILE} is of another GPU or version of TensorRT", "export the model again, here"
            )
        names = [engine.get_tensor_name(place) for place in range(engine.num_io_tensors)]
        outputs = [name for name in names if engine.get_tensor_mode(name) == tensorrt.TensorIOMode.OUTPUT]
        inputs = [argument.name for argument in signature.inputs]
        run = partial(_run, engine, engine.create_execution_context(), inputs, outputs)
        return Program(ExportedCall(signature, run, "cuda"), deployed(folder), self.built_for())


def dialect() -> Dialect:
    """What TensorRT takes: symmetric grids, and nothing that is quantized on the fly."""
    from perfsuite.export.lowering import OPSET, Dialect, OnTheFly

    return Dialect(NAME, OnTheFly.NOWHERE, symmetric=True, opset=OPSET)


def _on_cpu(inputs: Inputs) -> Inputs:
    import torch

    return inputs.to(torch.device("cpu"))


def _logger() -> Any:
    import tensorrt

    return tensorrt.Logger(tensorrt.Logger.ERROR)


def _built(graph: Path, signature: Signature, shapes: Sequence[tuple[int, ...]]) -> bytes:
    """The engine, tuned for the example's shapes within the declared ranges."""
    import tensorrt

    builder = tensorrt.Builder(_logger())
    network = builder.create_network(1 << int(tensorrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = tensorrt.OnnxParser(network, _logger())
    if not parser.parse_from_file(str(graph)):
        raise TechniqueError(f"TensorRT does not take the model: {parser.get_error(0)}", "gate it on another runtime")
    profile = builder.create_optimization_profile()
    for argument, shape in zip(signature.inputs, shapes, strict=True):
        bounds = [_bounds(signature, size, now) for size, now in zip(argument.shape, shape, strict=True)]
        profile.set_shape(argument.name, *zip(*bounds, strict=True))
    config = builder.create_builder_config()
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise TechniqueError(
            "TensorRT could not build an engine of the model", "see what it logged, or gate it elsewhere"
        )
    return bytes(plan)


def _bounds(signature: Signature, size: int | str, now: int) -> tuple[int, int, int]:
    """The least, the usual and the largest size of one dimension."""
    if isinstance(size, int):
        return size, size, size
    allowed = signature.ranges[size]
    return allowed.low, now, allowed.high or _UNBOUNDED * now


_DTYPES = {
    "FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16", "INT64": "int64", "INT32": "int32", "INT8": "int8",
    "UINT8": "uint8", "BOOL": "bool",
}  # fmt: skip


def _run(
    engine: Any, context: Any, inputs: Sequence[str], outputs: Sequence[str], given: Sequence[Tensor]
) -> list[Any]:
    import torch

    held = [tensor.contiguous() for tensor in given]
    for name, tensor in zip(inputs, held, strict=True):
        context.set_input_shape(name, tuple(tensor.shape))
        context.set_tensor_address(name, tensor.data_ptr())
    found = []
    for name in outputs:
        dtype = getattr(torch, _DTYPES[engine.get_tensor_dtype(name).name])
        found.append(torch.empty(tuple(context.get_tensor_shape(name)), dtype=dtype, device="cuda"))
        context.set_tensor_address(name, found[-1].data_ptr())
    context.execute_async_v3(torch.cuda.current_stream().cuda_stream)
    return found


RUNTIME = TensorRt()
