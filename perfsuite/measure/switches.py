"""torch's process-wide switches: what they are, what torch starts with, and work that depends on none of them.

Importing this imports no torch, and where torch is not loaded there are no switches.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from functools import cache, partial
from typing import Any, NamedTuple

UNKNOWN = object()  # what torch starts with depends on the machine


class Switch(NamedTuple):
    """One switch, by a name that a sentence can use, with what torch starts with."""

    name: str
    at_first: Any
    read: Callable[[], Any]
    write: Callable[[Any], object]


def switches() -> tuple[Switch, ...]:
    """All that can be read and written."""
    torch = sys.modules.get("torch")
    is_there = hasattr(torch, "set_default_device")  # else it is in the middle of its import
    return _switches_of(torch) if is_there else ()


@cache
def _switches_of(torch: Any) -> tuple[Switch, ...]:
    return tuple(_listed(torch))


def _listed(torch: Any) -> Iterator[Switch]:
    from perfsuite._compat.torch import default_device

    backends, attention = torch.backends, torch.backends.cuda
    yield Switch("threads", UNKNOWN, torch.get_num_threads, torch.set_num_threads)
    yield Switch("quantized engine", UNKNOWN, *_attribute(backends.quantized, "engine"))
    yield Switch("default dtype", torch.float32, torch.get_default_dtype, torch.set_default_dtype)
    yield Switch("default device", None, default_device, torch.set_default_device)
    yield Switch("gradients", True, torch.is_grad_enabled, torch.set_grad_enabled)
    yield Switch("anomaly detection", False, torch.is_anomaly_enabled, torch.set_anomaly_enabled)
    precision = torch.get_float32_matmul_precision, torch.set_float32_matmul_precision
    yield Switch("float32 matmul precision", "highest", *precision)
    deterministic = torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode  # tells warnings apart
    yield Switch("deterministic mode", 0, *deterministic)
    yield Switch("flushing of denormals", False, _flushes_denormals, torch.set_flush_denormal)
    yield Switch("mkldnn", True, *_attribute(backends.mkldnn, "enabled"))
    yield Switch("cudnn benchmark", False, *_attribute(backends.cudnn, "benchmark"))
    yield Switch("attention fast path", True, backends.mha.get_fastpath_enabled, backends.mha.set_fastpath_enabled)
    yield Switch("flash attention", True, attention.flash_sdp_enabled, attention.enable_flash_sdp)
    efficient = attention.mem_efficient_sdp_enabled, attention.enable_mem_efficient_sdp
    yield Switch("memory-efficient attention", True, *efficient)
    yield Switch("math attention", True, attention.math_sdp_enabled, attention.enable_math_sdp)
    for kind in ("cpu", "cuda"):
        is_on, turn = torch.is_autocast_enabled, torch.set_autocast_enabled
        yield Switch(f"autocast on {kind}", False, partial(is_on, kind), partial(turn, kind))


def read_switches() -> dict[str, Any]:
    """The switches as they are; inference mode, which can be entered only, is among them."""
    found = {switch.name: switch.read() for switch in switches()}
    return found | {"inference mode": sys.modules["torch"].is_inference_mode_enabled()} if found else found


def first_switches() -> dict[str, Any]:
    """The switches as torch starts, where that is known."""
    known = {switch.name: switch.at_first for switch in switches() if switch.at_first is not UNKNOWN}
    return known | {"inference mode": False} if known else known


def write_switches(values: Mapping[str, Any]) -> None:
    """Set what differs from these values, or from what torch starts with where there is none."""
    for name, at_first, read, write in switches():
        wanted = values.get(name, at_first)
        if wanted is not UNKNOWN and read() != wanted:
            write(wanted)


@contextmanager
def as_torch_starts() -> Iterator[None]:
    """Whatever has been set in this process, nothing of it holds in here; threads stay as they are."""
    before = {switch.name: switch.read() for switch in switches()}
    with _outside_of_inference_mode() if before else nullcontext(), ExitStack() as stack:
        stack.callback(write_switches, before)
        write_switches({name: value for name, value in before.items() if name in _OF_THE_MACHINE})
        yield


_OF_THE_MACHINE = ("threads", "quantized engine")


def _outside_of_inference_mode() -> Any:
    return sys.modules["torch"].inference_mode(False)


def _attribute(holder: Any, name: str) -> tuple[Callable[[], Any], Callable[[Any], object]]:
    return partial(getattr, holder, name), partial(setattr, holder, name)


def _flushes_denormals() -> bool:
    """No function tells; so a denormal number is made, by the unit that the switch is for."""
    return sys.float_info.min * _HALF == 0.0


_HALF = 0.5  # by name: a product of constants is computed when this is compiled
