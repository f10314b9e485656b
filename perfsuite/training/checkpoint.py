"""All that training goes on from, in one file without pickle: there whole or not at all.

A safetensors file: the tensors of model, optimizer, schedule, scaler and random generators, and in its header JSON that
says which is which. Training that was resumed equals training that was not interrupted, bit for bit.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec
import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from perfsuite.errors import StorageError
from perfsuite.files import check_regular, replacing
from perfsuite.models.generators import random_state, set_random_state
from perfsuite.techniques.casting import layout
from perfsuite.training.packing import pack, unpack

VERSION = 1
_ACCOUNT = "perfsuite_checkpoint"
_MODEL = "model."
_AGAIN = "give another path, or remove the file and train from the start"


class Stateful(Protocol):
    """A schedule, or a gradient scaler."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> Any: ...


class _Account(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    tied: dict[str, str]  # names of the model's tensors that are not stored, with the name of the one that they are
    state: Any


def save_checkpoint(
    path: str | os.PathLike[str],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: Stateful | None = None,
    scaler: Stateful | None = None,
    position: Mapping[str, Any] | None = None,
) -> Path:
    """Write the whole state of training, random generators included; what was at ``path`` is kept until it is written.

    ``position`` says where training is: numbers, texts and tensors, in dicts, lists and tuples. It is what
    ``load_checkpoint`` returns.

    Raises StorageError where the file cannot be written, or for state that it cannot hold.
    """
    target = Path(path)
    tensors, tied = _tensors_of(model)
    parts = {
        "optimizer": optimizer.state_dict(),
        "schedule": None if schedule is None else schedule.state_dict(),
        "scaler": None if scaler is None else scaler.state_dict(),
        "random": random_state(),
        "position": dict(position or {}),
    }
    state = {name: pack(part, name, tensors) for name, part in parts.items()}
    account = msgspec.json.encode(_Account(VERSION, tied, state)).decode()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as temporary:
            save_file(_apart(tensors), temporary, metadata={_ACCOUNT: account})
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        raise StorageError(
            f"cannot write the checkpoint {target}: {error}",
            "check the path and the free space; an earlier checkpoint is as it was",
        ) from error
    return target


def load_checkpoint(
    path: str | os.PathLike[str],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: Stateful | None = None,
    scaler: Stateful | None = None,
) -> dict[str, Any]:
    """Bring all of it, and the random generators, into the state that was saved; returns the ``position``.

    Everything is checked before anything is changed. Raises StorageError for a file that is missing, truncated,
    foreign, of another version, or of another model, optimizer, schedule or scaler.
    """
    source = Path(path)
    account, tensors = _read(source)
    try:
        state = {name: unpack(part, tensors) for name, part in account.state.items()}
        weights = _weights(account, tensors)
        _check_model(source, weights, model.state_dict())
        _check_optimizer(source, state["optimizer"], optimizer)
        for name, given in (("schedule", schedule), ("scaler", scaler)):
            _check_given(source, name, state[name], given)
        random, position = state["random"], dict(state["position"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _not_one(source, error) from error
    model.load_state_dict(weights)
    optimizer.load_state_dict(state["optimizer"])
    for name, given in (("schedule", schedule), ("scaler", scaler)):
        if given is not None:
            given.load_state_dict(state[name])
    set_random_state(random)
    return position


def read_position(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Where training was when that file was written. Raises StorageError for what is no whole checkpoint."""
    source = Path(path)
    account, tensors = _read(source)
    try:
        return dict(unpack(account.state["position"], tensors))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _not_one(source, error) from error


def _not_one(path: Path, error: Exception) -> StorageError:
    return StorageError(f"{path} does not hold what a checkpoint holds: {error!r}", _AGAIN)


def _tensors_of(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """By name in the file, tied ones once; and which are tied to which. Raises StorageError for what is no tensor."""
    kept: dict[str, Tensor] = {}
    tied: dict[str, str] = {}
    places: dict[Any, str] = {}
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            raise StorageError(
                f"{name!r} of the {type(model).__name__} is a {type(value).__name__}, and checkpoints hold tensors",
                "register what it is made of as buffers, in the place of get_extra_state()",
            )
        place = layout(value)
        if place is not None and places.setdefault(place, name) != name:
            tied[name] = places[place]
        else:
            kept[_MODEL + name] = value.detach().contiguous()
    return kept, tied


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """In memory of their own, as safetensors asks for."""
    seen: set[int] = set()
    found = {}
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage()
        is_alone = storage.nbytes() == tensor.nbytes and storage.data_ptr() not in seen
        seen.add(storage.data_ptr())
        found[name] = tensor if is_alone else tensor.clone()
    return found


def _read(path: Path) -> tuple[_Account, dict[str, Tensor]]:
    try:
        check_regular(path)
        with safetensors.safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_ACCOUNT)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # the file is no dict
    except FileNotFoundError as error:
        raise StorageError(f"{path} does not exist", "give the file that a checkpoint was saved to") from error
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        raise StorageError(f"{path} is no checkpoint, or only a part of one: {error}", _AGAIN) from error
    if text is None:
        raise StorageError(f"{path} is a safetensors file, and no checkpoint of training", _AGAIN)
    try:
        version = msgspec.json.decode(text, type=dict[str, Any]).get("version")
        if version != VERSION:
            raise StorageError(f"{path} has version {version}, this perfsuite reads {VERSION}", _AGAIN)
        return msgspec.json.decode(text, type=_Account), tensors
    except (msgspec.DecodeError, RecursionError) as error:
        raise StorageError(f"{path} is no checkpoint: {error}", _AGAIN) from error


def _weights(account: _Account, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    own = {name.removeprefix(_MODEL): tensor for name, tensor in tensors.items() if name.startswith(_MODEL)}
    return own | {name: own[other] for name, other in account.tied.items()}


def _check_model(path: Path, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """load_state_dict alone would convert dtypes in silence, and fail once half is loaded."""
    different = sorted(found.keys() ^ wanted.keys())
    if different:
        where = "the checkpoint" if different[0] in found else "the model"
        raise StorageError(f"{path} is of another model: {different[0]!r} is in {where} alone", _AGAIN)
    for name, tensor in wanted.items():
        old, new = (f"{each.dtype} {tuple(each.shape)}" for each in (found[name], tensor))
        if old != new:
            raise StorageError(f"{path} is of another model: {name!r} is {old} there and {new} here", _AGAIN)


def _check_optimizer(path: Path, found: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> None:
    theirs, ours = (
        [(len(group["params"]), group.keys()) for group in state["param_groups"]]
        for state in (found, optimizer.state_dict())
    )
    if theirs != ours:
        raise StorageError(f"{path} is of another optimizer than this {type(optimizer).__name__}", _AGAIN)


def _check_given(path: Path, name: str, found: Any, given: Stateful | None) -> None:
    if (found is None) != (given is None):
        message = "it holds one, and none was given" if given is None else "one was given, and it holds none"
        raise StorageError(f"{path} is of training with another {name}: {message}", f"give the same {name} as before")
