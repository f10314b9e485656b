"""How a student is trained, as a frozen value."""

from __future__ import annotations

from dataclasses import dataclass

from perfsuite.errors import UsageError
from perfsuite.spec import known_seed


@dataclass(frozen=True)
class DistillationConfig:
    """How a student is trained.

    Args:
        epochs: how often all batches are seen.
        steps: optimizer steps, in the place of epochs.
        accumulate: batches whose gradients make one step, weighed by how much of each counts. The last step of an epoch
            has what is left.
        learning_rate: the highest of a one-cycle schedule (Smith and Topin 2017), of AdamW. An optimizer of one's own
            brings its own.
        warmup: the share of steps on which the learning rate rises, 0 to 1.
        clip: gradients are scaled down to this norm; infinity leaves them.
        seed: of the order of examples, of dropout and of whatever else draws.
        every: steps from one checkpoint to the next.
        score_every: steps from one score to the next; an epoch, if None.
        floor: training ends as soon as the student's score reaches it.
        ask_once: ask the teacher once for each example and keep its answers, where batches say which examples they are
            (``Examples``, a list), are seen more than once, and have one label each. Needs data that do not change.

    Raises:
        UsageError: a number that is not possible, naming it.
    """

    epochs: int = 1
    steps: int | None = None
    accumulate: int = 1
    learning_rate: float = 5e-4
    warmup: float = 0.1
    clip: float = 1.0
    seed: int = 0
    every: int = 100
    score_every: int | None = None
    floor: float | None = None
    ask_once: bool = True

    def __post_init__(self) -> None:
        known_seed(self.seed)
        for name in ("epochs", "steps", "accumulate", "every", "score_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}", "use at least 1")
        for name in ("learning_rate", "clip"):
            value = getattr(self, name)
            if not value > 0:
                raise UsageError(f"{name} is {value}", "use a number above 0")
        if not 0 <= self.warmup <= 1:
            raise UsageError(f"warmup is {self.warmup}", "use a share of the steps, 0 to 1")
