"""The step of the first rank, which has the others make it at the same time, each on its share of the batch."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

from torch import Tensor

from perfsuite.errors import UsageError
from perfsuite.protocols import Inputs
from perfsuite.training.batches import shares, split
from perfsuite.training.losses import terms_of
from perfsuite.training.parallel.replica import Origin, Parallel, Replica, checksum, drawn_seed, packed
from perfsuite.training.parallel.team import Team
from perfsuite.training.plan import StepPlan


class ParallelStep:
    """Losses of ranks are weighed by the terms of their shares, so that the gradients are those of the whole batch.

    The other processes end when it is closed, or no longer there. Raises UsageError for what cannot be shared, the
    error of a rank that fails, and EngineError for one that dies or does not answer.
    """

    def __init__(self, parallel: Parallel, plan: StepPlan) -> None:
        self.ranks = parallel.ranks
        self._batch: Inputs | None = None
        self._snapshots = 0
        origin = packed(Origin.of(parallel, plan))
        self._team = Team(self.ranks)
        weakref.finalize(self, self._team.close)
        with self._team.together():
            self._replica = self._met(origin)
            self._finalizer = weakref.finalize(self, self._replica.leave)
            self._share(plan.example)
            self._all("settle", self._terms)
        made = self._replica.step
        self.model, self.optimizer, self.schedule, self.scaler = made.model, made.optimizer, made.schedule, made.scaler

    def __call__(self, batch: Inputs) -> Tensor:
        if batch is not self._batch:
            self._share(batch)
        self._team.tell("make", self._terms, self.model.training, drawn_seed())
        with self._team.together():
            mine = self._replica.step(self._replica.share, self._terms)
        total: Tensor = mine + sum(self._team.answers())
        return total / self.ranks

    def start_from(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        self._all("start_from", packed(state))

    def keep(self) -> Callable[[], object]:
        self._team.ask("keep")
        self._snapshots += 1
        return partial(self._team.ask, "restore", self._snapshots - 1)

    def whole(self, kind: Literal["gradients", "state"]) -> Mapping[str, Tensor]:
        return self._gathered(kind)[0]

    def checksums(self) -> tuple[int, ...]:
        mine, others = self._gathered("state")
        return (checksum(mine.values()), *others)

    def close(self) -> None:
        self._team.close()
        self._finalizer()

    def _met(self, origin: bytes) -> Replica:
        """Ranks are told to meet once all of them could read what they are made of: who waits, waits for all."""
        team = self._team
        team.tell_each("open", [(origin, member.rank) for member in team.members])
        replica = Replica(origin, 0)
        team.answers()
        where = team.folder, team.folder.name, team.timeout_s
        team.tell("join", *where)
        replica.join(*where)
        team.answers()
        return replica

    def _share(self, batch: Inputs) -> None:
        """Give each rank its part of a batch. Raises UsageError where they would not make as many micro-batches."""
        plan = self._replica.plan
        mine, *others = parts = shares(batch, self.ranks)
        counts = {len(list(split(part, plan.micro_batches))) for part in parts}
        if len(counts) > 1:
            raise UsageError(
                f"{self.ranks} ranks would have {' and '.join(map(str, sorted(counts)))} micro-batches each",
                f"gate a batch size that {self.ranks * plan.micro_batches} divides",
            )
        self._terms = sum(terms_of(plan.loss, part) for part in parts) / self.ranks
        self._team.tell_each("receive", [(packed(part),) for part in others])
        self._team.answers()
        self._replica.take(mine)
        self._batch = batch

    def _gathered(self, kind: Literal["gradients", "state"]) -> tuple[Mapping[str, Tensor], list[int]]:
        self._team.tell("check_whole", kind)
        with self._team.together():
            mine = self._replica.whole(kind)
        return mine, self._team.answers()

    def _all(self, name: str, *arguments: Any) -> None:
        """What each rank does, this one as the others."""
        self._team.tell(name, *arguments)
        with self._team.together():
            getattr(self._replica, name)(*arguments)
        self._team.answers()
