"""Seeded randomness that leaves the caller's random state alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from perfsuite.spec import known_seed


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run the body with torch's CPU generator seeded; afterwards it is as it was before."""
    generator = torch.default_generator  # torch.manual_seed would import torch._dynamo: two seconds
    before = generator.get_state()
    generator.manual_seed(known_seed(seed))
    try:
        yield
    finally:
        generator.set_state(before)


def token_ids(vocab_size: int, batch_size: int, length: int, seed: int) -> torch.Tensor:
    """(batch_size, length) uniform token ids from a seed."""
    generator = torch.Generator().manual_seed(known_seed(seed))
    return torch.randint(0, vocab_size, (batch_size, length), generator=generator)
