"""The files that hold a model's weights: written, counted, and read into a module that they fit exactly."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from perfsuite.errors import StorageError
from perfsuite.files import read_regular
from perfsuite.models.limited import Header
from perfsuite.techniques.casting import layout
from perfsuite.techniques.quantization.readable import QuantizedLayer, name_codes
from perfsuite.techniques.wrappers import prefix_of, unwrapped
from perfsuite.temporary import temporary_folder

WEIGHTS = "model.safetensors"
SHARDS = "model.safetensors.index.json"


@dataclass(frozen=True)
class Stored:
    """What an independent count of a saved file finds: bytes, elements and zeros over all its tensors."""

    size_bytes: int
    elements: int
    nonzeros: int

    @property
    def sparsity(self) -> float:
        return 1 - self.nonzeros / self.elements if self.elements else 0.0


class _Index(msgspec.Struct):
    weight_map: dict[str, str]


def check_can_be_written(model: nn.Module) -> None:
    """Raises StorageError, naming it, for what has no values, or is no tensor."""
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            raise StorageError(
                f"{name!r} of the {type(model).__name__} is a {type(value).__name__}, and such files hold tensors",
                "register what it is made of as buffers, in the place of get_extra_state()",
            )
        if is_lazy(value):
            raise StorageError(f"{name!r} is not initialised", "call the model once, and then save it")
        if value.is_meta:
            raise StorageError(
                f"{name!r} is on the meta device, and has no values", "load the whole model, without offloading"
            )


def write_weights(model: nn.Module, path: Path) -> None:
    """Write the state dict to one safetensors file; tensors that are the same memory are written once.

    The file tells under which name those are that are left out. Of a compiled or parallel model, the state dict is that
    of the model inside. Raises RuntimeError for tensors that share only a part of their memory.
    """
    state = unwrapped(model).state_dict()
    names: dict[Any, str] = {}
    tied: dict[str, str] = {}
    for name in sorted(state):
        place = layout(state[name])
        if place is not None and names.setdefault(place, name) != name:
            tied[name] = names[place]
    kept = {name: tensor for name, tensor in state.items() if name not in tied}
    _check_overlaps(kept)
    save_file({name: _alone(tensor) for name, tensor in kept.items()}, path, metadata=tied or None)


def _alone(tensor: Tensor) -> Tensor:
    """In memory of its own, as safetensors asks for, where it is a part of some or a transposed look at it."""
    is_whole = tensor.is_contiguous() and tensor.untyped_storage().nbytes() == tensor.nbytes
    return tensor if is_whole else tensor.contiguous().clone()


def _check_overlaps(tensors: Mapping[str, Tensor]) -> None:
    found = [
        (tensor.device.index or 0, tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes, name)
        for name, tensor in tensors.items()
        if tensor.nbytes and tensor.is_contiguous()
    ]
    for (_, start, end, name), (_, other_start, other_end, other) in pairwise(sorted(found)):
        if start <= other_start < end and (start, end) != (other_start, other_end):
            raise RuntimeError(f"{name!r} and {other!r} share a part of their memory")


def count_stored(model: nn.Module) -> Stored:
    """Save the model to a real file, read it back, and count what is in it."""
    with temporary_folder("weights") as folder:
        path = folder / WEIGHTS
        write_weights(model, path)
        tensors = load_file(path)
        elements = sum(tensor.numel() for tensor in tensors.values())
        nonzeros = sum(int(torch.count_nonzero(tensor)) for tensor in tensors.values())
        return Stored(path.stat().st_size, elements, nonzeros)


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The file, or the several that an index names, which transformers writes for large models.

    Raises StorageError for an index that is none, or that names files elsewhere.
    """
    index = folder / SHARDS
    if (folder / WEIGHTS).exists() or not index.exists():
        return (folder / WEIGHTS,)
    try:
        names = sorted(set(msgspec.json.decode(read_regular(index), type=_Index).weight_map.values()))
    except (OSError, msgspec.DecodeError, RecursionError) as error:
        raise StorageError(f"{index} is no index of weights: {error}", "save the model again") from error
    outside = [name for name in names if Path(name).name != name or not name.endswith(".safetensors")]
    if outside or not names:
        raise StorageError(f"{index} names {outside[:1] or 'no files'}, not files beside it", "save the model again")
    return tuple(folder / name for name in names)


def load_exactly(module: nn.Module, files: Sequence[Path], header: Header) -> None:
    """Load with names and dtypes that must agree; load_state_dict alone would convert dtypes in silence.

    Names that begin as those of a compiled or parallel model are read without that, with a warning. Raises ValueError.
    """
    found = {name: tensor for file in files for name, tensor in load_file(file).items()}
    prefix = prefix_of(found, module)
    if prefix:
        warnings.warn(
            f"the names of all tensors in {files[0].parent} begin with {prefix!r}, which a wrapper has put there: "
            "they are read without it",
            stacklevel=4,
        )
    found = {name.removeprefix(prefix): tensor for name, tensor in found.items()}
    for name, layer in module.named_modules(remove_duplicate=False):
        if isinstance(layer, QuantizedLayer):
            name_codes(layer, found, f"{name}." if name else "")
    wanted = module.state_dict()
    tied = {name.removeprefix(prefix): other.removeprefix(prefix) for name, other in header.tied.items()}
    for name, tensor in found.items():
        if name in wanted and wanted[name].dtype != tensor.dtype:
            raise ValueError(f"{name!r} is {tensor.dtype} in the file and {wanted[name].dtype} in the model")
    stored = {name: _stored_name(name, found, wanted, tied) for name in wanted}
    missing = {name for name, where in stored.items() if where is None}
    unexpected = found.keys() - wanted.keys()
    if missing or unexpected:
        raise ValueError(f"missing {sorted(missing)[:5]}, unexpected {sorted(unexpected)[:5]}")
    module.load_state_dict({name: found[where] for name, where in stored.items() if where is not None})


def _stored_name(
    name: str, found: Mapping[str, Any], wanted: Mapping[str, Tensor], tied: Mapping[str, str]
) -> str | None:
    """The name under which the file has a tensor: its own, or that of one it is tied to."""
    if name in found:
        return name
    mine, other = wanted[name], tied.get(name, "")
    if other in found and found[other].shape == mine.shape and found[other].dtype == mine.dtype:
        return other
    place = layout(mine)
    same = (other for other in found if place is not None and other in wanted and layout(wanted[other]) == place)
    return next(same, None)
