"""All that perfsuite uses of Lightning without Lightning promising it: its loop over single batches.

All of it was seen on Lightning 2.6. tests/trainers has a test for each. Importing this does not import Lightning.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def prepare_trainer(trainer: Any, module: Any) -> None:
    """All that ``Trainer.fit`` does before its first batch: strategy, precision, optimizer, schedule; and no more."""
    with _instead(trainer.fit_loop, run=lambda: None), _instead(trainer.strategy, teardown=lambda: None):
        trainer.fit(module, train_dataloaders=[])
    trainer.state.fn, trainer.state.status = "fit", "running"
    trainer.training = True
    trainer.fit_loop.max_batches = float("inf")
    trainer._logger_connector.reset_results()


def run_window(trainer: Any, batches: list[Any], is_last: bool) -> None:
    """A step of the optimizer over these micro-batches; ``is_last``: the data end with them."""
    loop = trainer.fit_loop.epoch_loop
    loop.batch_progress.reset_on_run()
    fetcher = _Fetcher(batches, is_last)
    for _ in batches:
        loop.advance(fetcher)


class _Fetcher:
    """What the loop takes batches from."""

    def __init__(self, batches: list[Any], is_last: bool) -> None:
        self._batches = batches
        self._is_last = is_last
        self._given = 0

    @property
    def done(self) -> bool:
        return self._is_last and self._given == len(self._batches)

    def __next__(self) -> tuple[Any, int, int]:
        self._given += 1
        return self._batches[self._given - 1], self._given - 1, 0


@contextmanager
def _instead(owner: Any, **methods: Any) -> Iterator[None]:
    """While open, the object has these methods in the place of its class's."""
    vars(owner).update(methods)
    try:
        yield
    finally:
        for name in methods:
            del vars(owner)[name]
