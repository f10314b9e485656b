"""What can be observed of a training step beyond its time, each from the state before the first step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from perfsuite.errors import OutputError, UsageError
from perfsuite.measure.distances import farthest, in_eps
from perfsuite.measure.step_memory import StepMemory, observe
from perfsuite.metric import Scores
from perfsuite.models.seeding import seeded
from perfsuite.temporary import temporary_folder
from perfsuite.training.checkpoint import load_checkpoint, save_checkpoint
from perfsuite.training.plan import STEPS
from perfsuite.training.run import GRADIENT, LOSS, UPDATED, Training
from perfsuite.training.step import SharedStep

_FEW = 6  # steps of a run that is resumed in the middle
_SEEDS = 8  # runs that steps to a target are counted in
_KINDS = {"loss": LOSS, "gradient": GRADIENT.format(""), "weight": UPDATED.format("")}


class Steps:
    """``restore`` brings the training back to its first state."""

    def __init__(self, training: Training, restore: Callable[[], None]) -> None:
        self.training = training
        self._restore = restore

    @cached_property
    def memory(self) -> StepMemory:
        """Bytes by kind, operators between processes, FLOPs by phase, of one step."""
        self._restore()
        self.training.once()  # the first one may initialise something
        self._restore()
        return observe(self.training)

    @property
    def collectives(self) -> Mapping[str, int]:
        return self.memory.collectives

    def recompute(self, plain: Steps) -> float:
        """How often the forward pass is computed, by FLOPs: 1, or 2 where all of it is computed again."""
        return 1 + (self.memory.flops - plain.memory.flops) / plain.memory.forward_flops

    @cached_property
    def outcome(self) -> Mapping[str, Tensor]:
        """Loss, gradients and updated weights of one step, in float64 on the CPU."""
        self._restore()
        return _doubled(self.training.outputs())

    @cached_property
    def quiet_outcome(self) -> Mapping[str, Tensor]:
        """The same with nothing drawn: in eval mode, so that dropout drops nothing."""
        self._restore()
        return _doubled(self.training.outputs(quiet=True))

    @property
    def loss(self) -> float:
        return float(self.outcome[LOSS])

    def norm(self, kind: str) -> float:
        """Of all gradients, or of all updated weights, together."""
        return float(torch.stack([value.norm() for value in self._of(kind, self.outcome).values()]).norm())

    @property
    def skipped(self) -> int:
        """1 where the scaler has skipped the step of a repetition."""
        return int(not self.taken)

    @cached_property
    def taken(self) -> int:
        """Steps of the optimizer in one repetition."""
        self._restore()
        made = []
        handle = self.training.step.optimizer.register_step_post_hook(lambda *_: made.append(1))
        try:
            self.training.once()
        finally:
            handle.remove()
        return len(made)

    def distance(self, plain: Steps, kind: str) -> float:
        """The largest of any parameter, in eps (perfsuite.measure.distances). Raises OutputError for other shapes."""
        return farthest(*self._pair(plain, kind))[1]

    def first_difference(self, plain: Steps) -> str:
        """The first phase in which the step differs from the plain one, and there the parameter that differs most."""
        for kind, phase in (("loss", "forward"), ("gradient", "backward"), ("weight", "optimizer")):
            name, distance = farthest(*self._pair(plain, kind))
            if distance > 0:
                return f"first differs in the {phase} phase: {name} by {distance:,.0f} eps"
        return ""

    @cached_property
    def trajectory(self) -> tuple[float, ...]:
        """The losses of a run of 20 steps."""
        return self._losses(quiet=False)

    @cached_property
    def quiet_trajectory(self) -> tuple[float, ...]:
        """The same with nothing drawn."""
        return self._losses(quiet=True)

    def trajectory_distance(self, plain: Steps) -> float:
        """Of the losses of both runs, the largest in eps."""
        pairs = zip(*self._trajectories(plain), strict=True)
        return max(in_eps(torch.tensor([one]), torch.tensor([other]), torch.float32, 0.0) for one, other in pairs)

    def first_loss_that_differs(self, plain: Steps) -> str:
        pairs = enumerate(zip(*self._trajectories(plain), strict=True), start=1)
        found = next(((n, one, other) for n, (one, other) in pairs if one != other), None)
        return "" if found is None else f"first differs at step {found[0]}: {found[1]:.9g} for {found[2]:.9g}"

    @cached_property
    def to_target(self) -> Scores:
        """For each of several seeds, the steps until the loss is at the spec's target; twice the run if it never is."""
        target = self.training.spec.target_loss
        assert target is not None
        values = []
        for seed in range(_SEEDS):
            self._restore()
            losses = self.training.run(STEPS, seed, lambda number, loss: float(loss) <= target)
            values.append(float(len(losses) if float(losses[-1]) <= target else 2 * STEPS))
        self._restore()
        return Scores(f"a loss of {target:g}", f"seeds of {self.training.spec.name}", tuple(values))

    @cached_property
    def resume_distance(self) -> float:
        """How far a run that was written to a file in its middle, and read by a new one, ends from one that was not."""
        return self._resumed[0]

    @cached_property
    def checkpoint_bytes(self) -> int:
        return self._resumed[1]

    @cached_property
    def _resumed(self) -> tuple[float, int]:
        if isinstance(self.training.step, SharedStep):
            raise UsageError(
                "a run in several processes cannot be resumed from a file yet",
                "gate resume_distance and checkpoint_size by a recipe for one process, such as 'plain'",
            )
        self._restore()
        first, second = self.training.again(), self.training.again()
        with temporary_folder("checkpoint") as folder, seeded(0):
            file = Path(folder) / "training.safetensors"
            first.run(_FEW, after=lambda number, _: _save(file, first) if number == _FEW // 2 else None)
            load_checkpoint(file, second.step.model, second.step.optimizer, second.step.schedule, second.step.scaler)
            second.resume(_FEW // 2, _FEW)
            size = file.stat().st_size
        return farthest(_weights(second), _weights(first), _dtypes(first))[1], size

    def _losses(self, quiet: bool) -> tuple[float, ...]:
        self._restore()
        found = tuple(map(float, self.training.run(STEPS, quiet=quiet)))
        self._restore()
        return found

    def _draws_as(self, plain: Steps) -> bool:
        return self.training.plan.draws_alike and plain.training.plan.draws_alike

    def _trajectories(self, plain: Steps) -> tuple[tuple[float, ...], tuple[float, ...]]:
        if self._draws_as(plain):
            return self.trajectory, plain.trajectory
        return self.quiet_trajectory, plain.quiet_trajectory

    def _pair(
        self, plain: Steps, kind: str
    ) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor], Mapping[str, torch.dtype]]:
        """What is compared: with nothing drawn where both draw differently, as micro-batches do."""
        is_alike = self._draws_as(plain)
        mine, theirs = (each.outcome if is_alike else each.quiet_outcome for each in (self, plain))
        one, other = self._of(kind, mine), self._of(kind, theirs)
        if {name: value.shape for name, value in one.items()} != {name: value.shape for name, value in other.items()}:
            raise OutputError("the step trains other parameters than the plain one", "compare forms of one model")
        return one, other, _dtypes(plain.training)

    def _of(self, kind: str, outcome: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        prefix = _KINDS[kind]
        return {name: value for name, value in outcome.items() if name.startswith(prefix)}


def _save(file: Path, training: Training) -> None:
    """In the middle of a run, which goes on."""
    step = training.step
    save_checkpoint(file, step.model, step.optimizer, step.schedule, step.scaler)


def _weights(training: Training) -> Mapping[str, Tensor]:
    return {UPDATED.format(name): p.detach().double().cpu() for name, p in training.step.model.named_parameters()}


def _doubled(outputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    return {name: value.detach().double().cpu() for name, value in outputs.items()}


def _dtypes(training: Training) -> Mapping[str, torch.dtype]:
    """Of what a parameter rounds to, under the names of what is compared."""
    found = {LOSS: torch.float32}
    for name, parameter in training.step.model.named_parameters():
        found |= {GRADIENT.format(name): parameter.dtype, UPDATED.format(name): parameter.dtype}
    return found
