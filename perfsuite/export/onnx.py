"""A module as an ONNX file: its graph, our integers in ONNX's operators, and names for what may change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from perfsuite.errors import TechniqueError, first_line
from perfsuite.export import convolutions as convolutions  # registers what they are lowered to
from perfsuite.export.graph import exported
from perfsuite.export.lowering import Dialect, lowered
from perfsuite.export.quiet import quiet
from perfsuite.export.signature import Signature
from perfsuite.protocols import Inputs
from perfsuite.units import dtype_name

FILE = "model.onnx"
_LARGEST = 2**31 - 2**26  # bytes of one protobuf message, with room for the graph itself


def write_onnx(module: nn.Module, inputs: Inputs, dialect: Dialect, folder: Path) -> Signature:
    """Write ``model.onnx`` into a folder, and weights beside it where one file cannot hold them.

    It needs onnx and onnxscript. Raises TechniqueError for a module that cannot be exported.
    """
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass
    from onnxscript.optimizer import optimize_ir

    graph = exported(lowered(module, dialect), inputs)
    _check_floats(graph.program, dialect)
    names = [argument.name for argument in graph.signature.inputs]
    outputs = _distinct(graph.signature.outputs, names)
    try:
        with quiet():
            made = torch.onnx.export(
                graph.program, dynamo=True, verbose=False, opset_version=dialect.opset,
                input_names=names, output_names=outputs, optimize=False,
            )  # fmt: skip
            assert made is not None
            ClearMetadataAndDocStringPass()(made.model)  # lines of code, with the folders of this machine
            optimize_ir(made.model)  # and no fusions: one makes a RotaryEmbedding that holds for a batch of 1 alone
    except Exception as error:
        reason = _reason(error)
        raise TechniqueError(
            f"ONNX cannot express the model{_where(graph.program, reason)}: {reason}",
            "write that part with other operators of torch, or gate the model on another runtime",
        ) from error
    _name_dimensions(made.model, graph.signature)
    made.save(folder / FILE, external_data=_bytes_of(graph.program) > _LARGEST)
    return graph.signature


def _check_floats(program: torch.export.ExportedProgram, dialect: Dialect) -> None:
    """Of weights, inputs and outputs. Raises TechniqueError for one that the runtime does not compute in.

    Inputs and outputs are NumPy's arrays on the way, which know no bfloat16: weights may have it all the same.
    """
    given = [node for node in program.graph.nodes if node.op == "placeholder"]
    outputs = next(node for node in program.graph.nodes if node.op == "output").all_input_nodes
    inputs = {name for name in program.graph_signature.user_inputs if isinstance(name, str)}
    for node in (*given, *outputs):
        value = node.meta.get("val")
        if not isinstance(value, torch.Tensor) or not value.is_floating_point():
            continue
        is_array = node in outputs or node.name in inputs
        if value.dtype not in dialect.floats or (is_array and value.dtype == torch.bfloat16):
            raise TechniqueError(
                f"{dialect.runtime} does not {'take or give' if is_array else 'compute in'} {dtype_name(value.dtype)}",
                "gate the model in float32 there (model.float()), or in eager torch",
            )


def _name_dimensions(model: Any, signature: Signature) -> None:
    """Symbols such as ``s77`` become ``batch`` and ``sequence`` in what the file says of its inputs."""
    for value, argument in zip(model.graph.inputs, signature.inputs, strict=True):
        for axis, size in enumerate(argument.shape):
            if isinstance(size, str):
                value.shape[axis] = size


def _distinct(outputs: tuple[str, ...], inputs: list[str]) -> list[str]:
    """ONNX has one namespace for all values; a number is no name in it."""
    named = [f"output_{name}" if name.isdigit() else name for name in outputs]
    return [f"{name}_out" if name in inputs else name for name in named]


def _bytes_of(program: torch.export.ExportedProgram) -> int:
    tensors = [*program.state_dict.values(), *program.constants.values()]
    return sum(t.numel() * t.element_size() for t in tensors if isinstance(t, torch.Tensor))


def _where(program: torch.export.ExportedProgram, reason: str) -> str:
    """The module that the operator which is named in the reason stands in, if it is known."""
    for node in program.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if schema is not None and f"'{schema.name.replace('::', '.')}'" in reason:
            stack = list((node.meta.get("nn_module_stack") or {}).values())
            path, kind = stack[-1] if stack else ("", "")
            name = path.removeprefix("module").lstrip(".") or "its forward"
            return f", in {name} ({str(kind).rpartition('.')[2]})" if stack else ""
    return ""


def _reason(error: Exception) -> str:
    """The innermost cause says which operator; what is around it says that an export failed."""
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return first_line(error)
