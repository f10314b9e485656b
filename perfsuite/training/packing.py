"""Nested state (of optimizers, schedules, generators) as plain JSON beside named tensors, and back bit for bit.

No pickle: what is neither a tensor nor plain is refused by name, and nothing of a file is ever run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from perfsuite.errors import StorageError

_PLAIN = (str, bool, int, type(None))


def pack(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """JSON for a value; its tensors are put into ``tensors`` under names that begin with ``name``.

    Raises StorageError for what is neither a tensor, a number, a text, nor a dict, list or tuple of them.
    """
    if isinstance(value, Tensor):
        tensors[name] = value.detach().contiguous()
        return {"tensor": name}
    if isinstance(value, float):
        return {"float": value.hex()}  # exact, and JSON has no infinity
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, Mapping):
        return {"dict": [[pack(key, f"{name}.key", tensors), pack(item, f"{name}.{key}", tensors)]
                         for key, item in value.items()]}  # fmt: skip
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [pack(item, f"{name}.{index}", tensors) for index, item in enumerate(value)]}
    raise StorageError(
        f"{name!r} is a {type(value).__name__}, which a checkpoint cannot hold",
        "keep numbers, texts and tensors in it, in dicts, lists and tuples",
    )


def unpack(packed: Any, tensors: Mapping[str, Tensor]) -> Any:
    """What was packed. Raises ValueError or KeyError for what ``pack`` has not written."""
    if isinstance(packed, _PLAIN):
        return packed
    ((kind, value),) = packed.items()
    match kind:
        case "tensor":
            return tensors[value]
        case "float":
            return float.fromhex(value)
        case "dict":
            return {unpack(key, tensors): unpack(item, tensors) for key, item in value}
        case "list":
            return [unpack(item, tensors) for item in value]
        case "tuple":
            return tuple(unpack(item, tensors) for item in value)
    raise ValueError(f"{kind!r} is no kind of value")
