"""All random generators that people draw from: Python's, NumPy's, torch's, and those of its CUDA devices."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from perfsuite.spec import known_seed


def random_state() -> dict[str, Any]:
    """The state of all generators: numbers, texts and tensors."""
    kind, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(np.asarray(keys).copy()), *rest),
        "torch": torch.default_generator.get_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Put all generators into a state that ``random_state`` gave."""
    kind, keys, *rest = state["numpy"]
    random.setstate(state["python"])
    np.random.set_state((kind, keys.numpy(), *rest))
    torch.default_generator.set_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"][: torch.cuda.device_count()])


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Run the body; afterwards all generators are as they were."""
    before = random_state()
    try:
        yield
    finally:
        set_random_state(before)


@contextmanager
def seeded_everywhere(seed: int) -> Iterator[None]:
    """The same, with all generators seeded in the body."""
    with kept_random_state():
        seed_everywhere(seed)
        yield


def seed_everywhere(seed: int) -> None:
    """From here on, all generators give the numbers of that seed."""
    random.seed(known_seed(seed))
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would import torch._dynamo: two seconds
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
