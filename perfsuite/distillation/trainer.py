"""Distillation as a run that can be watched, stopped, killed and gone on with."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from itertools import count, islice
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from perfsuite.distillation.config import DistillationConfig
from perfsuite.distillation.data import Batch, Data, Examples
from perfsuite.distillation.finite import check_gradients
from perfsuite.distillation.layers import LayerLoss
from perfsuite.distillation.step import DistillationStep, Loss
from perfsuite.distillation.teacher import Ask, ask, ask_once, check_apart, known
from perfsuite.errors import StorageError, UsageError
from perfsuite.models.generators import seeded_everywhere
from perfsuite.progress import tell
from perfsuite.techniques.visiting import visited
from perfsuite.training.checkpoint import load_checkpoint, read_position, save_checkpoint

MakeOptimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
STATE = "state.safetensors"


@dataclass(frozen=True)
class Distilled:
    """A trained student, and how it went.

    ``losses``: one for each optimizer step. ``scores``: (step, score) as often as the student was scored. ``stopped``
    says why training ended. ``resumed``: the step that it went on from, 0 where it began anew.
    """

    student: nn.Module
    losses: tuple[float, ...]
    scores: tuple[tuple[int, float], ...]
    stopped: str
    resumed: int = 0

    @property
    def steps(self) -> int:
        return len(self.losses)

    @property
    def score(self) -> float | None:
        """The last one."""
        return self.scores[-1][1] if self.scores else None


@dataclass
class Place:
    """Where a run is: the next batch, and what has happened so far."""

    epoch: int = 0
    batch: int = 0
    losses: list[float] = field(default_factory=list)
    scores: list[tuple[int, float]] = field(default_factory=list)
    stopped: str = ""


@dataclass(frozen=True)
class Task:
    """What a run is given."""

    teacher: nn.Module
    student: nn.Module
    data: Data
    config: DistillationConfig
    loss: Loss
    layers: tuple[LayerLoss, ...]
    score: Callable[[nn.Module], float] | None
    make_optimizer: MakeOptimizer

    @property
    def steps_of_epoch(self) -> int | None:
        return None if self.data.batches is None else -(-self.data.batches // self.config.accumulate)

    @property
    def steps(self) -> int:
        """How many optimizer steps there are at most."""
        config, of_epoch = self.config, self.steps_of_epoch
        if of_epoch == 0:
            raise no_batch()
        if config.steps is not None:
            return config.steps
        if of_epoch is None:
            raise UsageError("the data do not say how many batches they are", "give steps in the place of epochs")
        return config.epochs * of_epoch

    @property
    def fingerprint(self) -> str:
        """Equal for runs of which one may go on with the other's checkpoint."""
        optimizer = self.make_optimizer([nn.Parameter(torch.zeros(1))])
        settings = [asdict(self.config) | {"every": 0}, self.steps, self.data.batches, repr(self.loss),
                    [repr(each) + repr(each.layer_map) for each in self.layers], repr(optimizer)]  # fmt: skip
        digest = hashlib.sha256(repr(settings).encode())
        states = (state for module in (self.teacher, self.student) for state in module.state_dict().values())
        for tensor in (*states, *self.data.tensors):
            if isinstance(tensor, Tensor):
                digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
                digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]


class Run:
    """A task on its way. What it changes is the student, in place; modes and random generators are put back."""

    def __init__(self, task: Task, folder: Path | None) -> None:
        self.task, self.place, self.resumed = task, Place(), 0
        self.whole = nn.ModuleList([task.student, *task.layers])
        self.trained = {name: p for name, p in self.whole.named_parameters() if p.requires_grad}
        if not any(name.startswith("0.") for name in self.trained):
            raise UsageError(
                f"no parameter of the {type(task.student).__name__} requires a gradient: there is nothing to train",
                "student.requires_grad_(True)",
            )
        check_apart(task.teacher, task.student)
        self.file = None if folder is None else folder / STATE
        self.fingerprint = "" if folder is None else task.fingerprint
        self.optimizer = task.make_optimizer(list(self.trained.values()))
        self.schedule = one_cycle(self.optimizer, task.steps, task.config.warmup)

    def finish(self) -> Distilled:
        """Train to the end, from where a checkpoint is, if there is one."""
        task = self.task
        with seeded_everywhere(task.config.seed), torch.enable_grad(), _training(self.whole), ExitStack() as stack:
            watched = {each: stack.enter_context(each.watching(task.student, task.teacher)) for each in task.layers}
            self._resume()
            if not self.place.stopped:
                step = DistillationStep(task.student, self._ask(), task.loss, watched)
                self._train(step)
        place = self.place
        return Distilled(task.student, tuple(place.losses), tuple(place.scores), place.stopped, self.resumed)

    def _ask(self) -> Ask:
        """Kept answers are asked for apart from what training draws: one that goes on asks again."""
        task = self.task
        if isinstance(task.data, Examples) and task.data.answers is not None and not task.layers:
            return known
        batches = task.data.batches or 0
        is_repeated = task.steps * task.config.accumulate >= 2 * batches
        keep = task.config.ask_once and task.data.examples and is_repeated and not task.layers
        if not keep:
            return ask(task.teacher)
        with seeded_everywhere(task.config.seed):
            return ask_once(task.teacher, task.data)

    def _train(self, step: DistillationStep) -> None:
        task, place = self.task, self.place
        for window, epoch, batch in windows(
            task.data, task.config.seed, place.epoch, place.batch, task.config.accumulate
        ):
            if len(place.losses) >= task.steps or place.stopped:
                break
            self._step(step, window)
            place.epoch, place.batch = epoch, batch
            self._look()
            self._save()

    def _step(self, step: DistillationStep, window: list[Batch]) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        number = len(self.place.losses) + 1
        loss = step.accumulate(window)
        check_gradients(loss, number, {name.removeprefix("0."): p for name, p in self.trained.items()})
        nn.utils.clip_grad_norm_(self.trained.values(), self.task.config.clip)
        self.optimizer.step()
        if number < self.task.steps:
            self.schedule.step()
        self.place.losses.append(loss)
        tell("distilling", number, self.task.steps)

    def _look(self) -> None:
        """Score the student where that is due; say whether it is done."""
        task, place = self.task, self.place
        done, is_last = len(place.losses), len(place.losses) >= task.steps
        every = task.config.score_every or task.steps_of_epoch or task.steps
        if task.score is not None and (is_last or done % every == 0):
            with visited(task.student):
                place.scores.append((done, float(task.score(task.student))))
            floor = task.config.floor
            if floor is not None and place.scores[-1][1] >= floor:
                place.stopped = f"the score reached {place.scores[-1][1]:.6g}, the floor is {floor:.6g}"
                return
        if is_last:
            place.stopped = f"all {done} steps were made"

    def _save(self) -> None:
        done = len(self.place.losses)
        if self.file is not None and (self.place.stopped or done % self.task.config.every == 0):
            place = self.place
            position = {
                "run": self.fingerprint, "epoch": place.epoch, "batch": place.batch, "stopped": place.stopped,
                "losses": torch.tensor(place.losses, dtype=torch.float64), "scores": place.scores,
            }  # fmt: skip
            save_checkpoint(self.file, self.whole, self.optimizer, self.schedule, position=position)

    def _resume(self) -> None:
        if self.file is None:
            return
        for left in self.file.parent.glob(f".{STATE}-*.tmp"):  # by a process that was killed while it wrote
            left.unlink(missing_ok=True)
        if not self.file.exists():
            return
        if read_position(self.file).get("run") != self.fingerprint:
            raise StorageError(
                f"{self.file} is of another run: of another teacher, student, data or config",
                "give another folder; or the student as it was at the start, and the same of all else",
            )
        found = load_checkpoint(self.file, self.whole, self.optimizer, self.schedule)
        losses: list[float] = found["losses"].tolist()
        self.place = Place(found["epoch"], found["batch"], losses, found["scores"], found["stopped"])
        self.resumed = len(losses)


def one_cycle(optimizer: torch.optim.Optimizer, steps: int, warmup: float) -> OneCycleLR:
    """Learning rates that rise to the optimizer's own on the share ``warmup`` of the steps, and fall to the last one.

    Momentum stays as the optimizer has it.
    """
    peaks = [group["lr"] for group in optimizer.param_groups]
    share = min(warmup + 1e-9, 1.0) if steps > 1 else 0.5  # torch divides by the length of the rise: it must not be 0
    return OneCycleLR(optimizer, peaks, total_steps=steps, pct_start=share, cycle_momentum=False)


def windows(data: Data, seed: int, epoch: int, batch: int, size: int) -> Iterator[tuple[list[Batch], int, int]]:
    """The batches of each optimizer step, without end, with the place behind them: epoch, and batch in it.

    No window reaches into the next epoch. Raises UsageError where an epoch has no batch.
    """
    for number in count(epoch):
        place = batch if number == epoch else 0
        found = data.epoch(seed, number, place)
        while window := list(islice(found, size)):
            place += len(window)
            yield window, number, place
        if place == 0:
            raise no_batch()


def no_batch() -> UsageError:
    return UsageError("the data hold no batch", "give at least one; a DataLoader may drop the last")


@contextmanager
def _training(module: nn.Module) -> Iterator[None]:
    """Run the body in train mode; afterwards each module is in its own mode."""
    modes = {each: each.training for each in module.modules()}
    module.train()
    try:
        yield
    finally:
        for each, mode in modes.items():
            each.training = mode
