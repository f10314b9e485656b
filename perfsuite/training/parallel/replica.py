"""What one rank holds, the first as any other: its replica (or its shards) of the model, and the step that it makes."""

from __future__ import annotations

import io
import pickle
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, NoReturn, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from perfsuite._compat.torch_distributed import are_shards, as_default, leave_group, own_group
from perfsuite.errors import UsageError, first_line
from perfsuite.models.devices import device_of
from perfsuite.models.seeding import seeded
from perfsuite.protocols import Inputs, ModelSpec, Recipe
from perfsuite.training.plan import StepPlan
from perfsuite.training.snapshot import Snapshot
from perfsuite.training.step import PlainStep

_SETTLING = 2  # steps: in the second one, DDP arranges its buckets as gradients come, once and for all


class Parallel(Protocol):
    """A recipe whose step is shared by processes, each of which calls ``join`` of a copy."""

    @property
    def name(self) -> str: ...

    @property
    def ranks(self) -> int: ...

    def apply(self, plan: StepPlan) -> StepPlan: ...

    def join(self, plan: StepPlan, group: dist.ProcessGroup) -> StepPlan:
        """The plan of one rank. Gradients are the mean over ranks once the last micro-batch is through."""


@dataclass(frozen=True)
class Origin:
    """What each rank makes its replica of. ``settings``: threads, and the dtype of what has none."""

    parallel: Parallel
    recipe: Recipe
    model: nn.Module
    spec: ModelSpec
    example: Inputs
    seed: int
    settings: tuple[int, torch.dtype]

    @staticmethod
    def of(parallel: Parallel, plan: StepPlan) -> Origin:
        plain, recipe = plan.origin or (plan, parallel)
        spec = replace(plain.spec, build=_not_here, inputs=_not_here, data=None, task=None)
        settings = torch.get_num_threads(), torch.get_default_dtype()
        return Origin(parallel, recipe, plain.model, spec, plain.example, plain.seed, settings)


class Replica:
    """One rank. ``packed``: an Origin. Raises UsageError where what it is made of cannot be imported here."""

    def __init__(self, packed: bytes, rank: int) -> None:
        self.rank = rank
        self.origin = _opened(packed)
        if rank:
            torch.set_num_threads(self.origin.settings[0])
            torch.set_default_dtype(self.origin.settings[1])
        self._device = _device(device_of(self.origin.model), rank)
        self._kept: list[Snapshot] = []
        self._share: Inputs | None = None

    def join(self, folder: Path, name: str, timeout_s: float) -> None:
        """Meet the other ranks through a file in that folder, and make the step."""
        origin, backend = self.origin, "gloo" if self._device.type == "cpu" else "nccl"
        self.group = own_group(
            backend, folder / "store", self.rank, origin.parallel.ranks, name, timedelta(seconds=timeout_s)
        )
        model, example = origin.model.to(self._device), origin.example.to(self._device)
        with seeded(origin.seed):
            self.plan = StepPlan.plain(model, origin.spec, example, origin.seed).by(origin.recipe)
            self.step = PlainStep(origin.parallel.join(self.plan, self.group))

    def leave(self) -> None:
        leave_group(self.group, self.step.model)

    def settle(self, terms: float) -> None:
        """What is done once is done now, and what is wrong with the model is found: nothing is changed."""
        before = Snapshot(self.step)
        self.step.model.train()
        with seeded(self.origin.seed), torch.enable_grad():
            for _ in range(_SETTLING):
                self.step.backward(self.share, terms)
        before.restore()

    @property
    def share(self) -> Inputs:
        assert self._share is not None, "no share of a batch has come yet"
        return self._share

    def take(self, share: Inputs) -> None:
        """What the next steps are made on."""
        self._share = share.to(self._device)

    def receive(self, packed: bytes) -> None:
        self.take(unpacked(packed))

    def make(self, terms: float, training: bool, seed: int) -> float:
        """One optimizer step on the share, beside the other ranks'. What is drawn differs from rank to rank."""
        self.step.model.train(training)
        with seeded((seed + self.rank) % 2**32), torch.enable_grad():
            return float(self.step(self.share, terms))

    def start_from(self, packed: bytes) -> None:
        state = unpacked(packed)
        with as_default(self.group):
            for name, parameter in self.step.model.named_parameters():
                if name in state:
                    own = {key: _placed(value, parameter) for key, value in state[name].items()}
                    self.step.optimizer.state[parameter] = own

    def keep(self) -> None:
        self._kept.append(Snapshot(self.step))

    def restore(self, number: int) -> None:
        self._kept[number].restore()

    def whole(self, kind: Literal["gradients", "state"]) -> dict[str, Tensor]:
        if kind == "state":
            found: Mapping[str, Tensor] = self.step.model.state_dict()
        else:
            named = self.step.model.named_parameters()
            found = {name: p.grad.detach().clone() for name, p in named if p.grad is not None}
        return {name: _gathered(value) for name, value in found.items()}

    def check_whole(self, kind: Literal["gradients", "state"]) -> int:
        """Take part in what ``whole`` does in the first rank; a checksum of what this one has."""
        return checksum(self.whole(kind).values())


def drawn_seed() -> int:
    """What the other ranks draw from, as far as this one has drawn."""
    return zlib.crc32(torch.default_generator.get_state().numpy().tobytes())


def checksum(tensors: Iterable[Tensor]) -> int:
    """Equal for tensors that are equal bit for bit."""
    found = 0
    for tensor in tensors:
        found = zlib.crc32(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes(), found)
    return found


def packed(value: object) -> bytes:
    """Raises UsageError for what cannot be sent to another process."""
    buffer = io.BytesIO()
    try:
        torch.save(value, buffer)
    except (pickle.PicklingError, AttributeError, TypeError, RuntimeError) as error:
        raise _unsent(error) from error
    return buffer.getvalue()


def unpacked(value: bytes) -> Any:
    """Of our own process, over a pipe of its own: nothing from outside."""
    return torch.load(io.BytesIO(value), map_location="cpu", weights_only=False)


def _opened(value: bytes) -> Origin:
    try:
        origin: Origin = unpacked(value)
    except (AttributeError, ImportError) as error:
        raise _unsent(error) from error
    return origin


def _unsent(error: Exception) -> UsageError:
    return UsageError(
        f"the model, its loss or its optimizer cannot be sent to other processes: {first_line(error)}",
        "let them be classes and functions that stand in a module, no lambdas and nothing inside of a function",
    )


def _device(device: torch.device, rank: int) -> torch.device:
    """Where this rank computes: on an accelerator of its own, if the model was given on the first one."""
    return device if device.type == "cpu" else torch.device(device.type, rank)


def _gathered(tensor: Tensor) -> Tensor:
    if not are_shards([type(tensor)]):
        return tensor
    full: Callable[[], Tensor] = tensor.full_tensor  # type: ignore[attr-defined]  # of DTensor
    return full()


def _placed(value: Any, parameter: nn.Parameter) -> Any:
    """State of the optimizer, sharded as its parameter is."""
    if not isinstance(value, Tensor):
        return value
    if not are_shards([type(parameter)]) or value.shape != parameter.shape:
        return value.clone()
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value, parameter.device_mesh, parameter.placements)  # type: ignore[attr-defined]  # of DTensor


def _not_here(*_: object) -> NoReturn:
    raise UsageError("another rank makes no model and no inputs", "take them from the plan")
