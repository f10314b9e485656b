"""All that perfsuite uses of Accelerate without Accelerate promising it: where it keeps its state.

All of it was seen on Accelerate 1.15. tests/trainers has a test for each. Importing this does not import Accelerate.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_KEEPERS = ("PartialState", "AcceleratorState", "GradientState")


class OwnState:
    """Accelerate keeps precision and accumulation once for all of a process: trainers would change one another's."""

    def __init__(self) -> None:
        self._own: dict[str, dict[str, Any]] = {name: {} for name in _KEEPERS}

    @contextmanager
    def entered(self) -> Iterator[None]:
        """While open, it is kept here."""
        keepers = {name: getattr(importlib.import_module("accelerate.state"), name) for name in _KEEPERS}
        before = {name: keeper._shared_state for name, keeper in keepers.items()}
        for name, keeper in keepers.items():
            keeper._shared_state = self._own[name]
        try:
            yield
        finally:
            for name, keeper in keepers.items():
                keeper._shared_state = before[name]

    def holds(self, accelerator: Any) -> bool:
        """Whether an accelerator was made while this was open."""
        return vars(accelerator.gradient_state) is self._own["GradientState"]
