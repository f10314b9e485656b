"""Frozen reference workloads. A time is stored as a ratio to one, sampled alternately with it.

A yardstick never changes: its name carries a version, and a change is a new name. Nor does it depend on what a
test before it has set for the process, neither when it is made nor when it is called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from perfsuite.errors import UnknownNameError
from perfsuite.measure.switches import as_torch_starts

TRANSFORMER = "transformer-layer-1"
INTERPRETER = "interpreter-1"
MATMUL = "matmul-1"
COPY = "copy-1"
ALL = (TRANSFORMER, MATMUL, COPY, INTERPRETER)


@dataclass(frozen=True)
class Yardstick:
    """Work that is called with torch's switches as torch starts with them."""

    work: Callable[[], object]

    @contextmanager
    def opened(self) -> Iterator[Callable[[], object]]:
        """The work alone, for many calls: the switches are set around all of them, and cost none of them time."""
        with as_torch_starts():
            yield self.work

    def __call__(self) -> object:
        with self.opened() as work:
            return work()


def yardstick(name: str, device: str = "cpu") -> Yardstick:
    """The workload of that name. Raises UnknownNameError for a baseline from another perfsuite."""
    with as_torch_starts():
        return Yardstick(_work(name, device))


def _work(name: str, device: str) -> Callable[[], object]:
    if name == TRANSFORMER:
        return _transformer_layer(device)
    if name == MATMUL:
        return _matmul(device)
    if name == COPY:
        return _copy(device)
    if name == INTERPRETER:
        return _interpreter
    raise UnknownNameError("yardstick", name, ALL)


def _interpreter() -> int:
    """About a millisecond of what Python code does: arithmetic, dicts, strings."""
    counts: dict[str, int] = {}
    total = 0
    for i in range(4000):
        key = str(i % 97)
        counts[key] = counts.get(key, 0) + i
        total += len(key) * i % 7
    return total + len(counts)


def _matmul(device: str) -> Callable[[], object]:
    """About a millisecond of arithmetic: (512, 512) x (512, 512)."""
    import torch

    a = torch.linspace(-1, 1, 512 * 512, dtype=torch.float32, device=device).view(512, 512)
    return lambda: torch.mm(a, a)


def _copy(device: str) -> Callable[[], object]:
    """About a millisecond of memory traffic: 8 MB, more than a core's own caches."""
    import torch

    source = torch.zeros(2_000_000, dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def _transformer_layer(device: str) -> Callable[[], object]:
    """About a millisecond of a transformer layer: (1, 128, 256), 4 heads, feed-forward 1024."""
    import torch
    import torch.nn.functional as F

    generator = torch.Generator("cpu").manual_seed(0)

    def weight(*shape: int) -> torch.Tensor:
        drawn = torch.rand(*shape, generator=generator, dtype=torch.float32, device="cpu")
        return (drawn * 0.1 - 0.05).to(device)

    ones = torch.ones(256, dtype=torch.float32, device=device)
    x, zeros = weight(1, 128, 256), torch.zeros_like(ones)
    w_qkv, w_out, w_up, w_down = weight(768, 256), weight(256, 256), weight(1024, 256), weight(256, 1024)

    def layer() -> object:
        with torch.no_grad():
            qkv = torch.unflatten(F.linear(x, w_qkv), -1, (3, 4, 64)).permute(2, 0, 3, 1, 4)  # (3, 1, 4, 128, 64)
            mixed = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2])  # (1, 4, 128, 64)
            y = F.layer_norm(x + F.linear(mixed.transpose(1, 2).flatten(2), w_out), (256,), ones, zeros)
            return F.layer_norm(y + F.linear(F.gelu(F.linear(y, w_up)), w_down), (256,), ones, zeros)

    return layer
