"""What a module can set for the whole process, so that it does not leak from one view into the other."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ProcessSettings:
    """The environment, the folder, and torch's process-wide switches, as they are if torch is not loaded yet."""

    environment: Mapping[str, str]
    folder: str
    switches: Mapping[str, Any]

    @staticmethod
    def now() -> ProcessSettings:
        return ProcessSettings(dict(os.environ), _folder(), {name: read() for name, _, read, _ in _torch_switches()})

    def restore(self) -> None:
        """Set what differs from now."""
        _restore_environment(self.environment)
        if self.folder and _folder() != self.folder:
            with suppress(OSError):  # it is gone: whoever needs it says so
                os.chdir(self.folder)
        for name, at_first, read, write in _torch_switches():
            before = self.switches.get(name, at_first)
            if before is not _UNKNOWN and read() != before:
                write(before)


def _restore_environment(wanted: Mapping[str, str]) -> None:
    """Only what differs: this comes before each turn of an arm."""
    now = dict(os.environ)
    for name in now.keys() - wanted.keys():
        del os.environ[name]
    os.environ.update(wanted.items() - now.items())


def seed_everything(seed: int) -> None:
    """Equal for both revisions, whichever runs first in a process."""
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)


_UNKNOWN = object()  # what torch starts with depends on the machine


def _torch_switches() -> Iterator[tuple[str, Any, Callable[[], Any], Callable[[Any], object]]]:
    """(name, what torch starts with, read, write) of torch's process-wide switches."""
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return
    backends, attention = torch.backends, torch.backends.cuda
    yield "threads", _UNKNOWN, torch.get_num_threads, torch.set_num_threads
    yield "engine", _UNKNOWN, *_attribute(backends.quantized, "engine")
    yield "dtype", torch.float32, torch.get_default_dtype, torch.set_default_dtype
    yield "device", None, _default_device, torch.set_default_device
    yield "gradients", True, torch.is_grad_enabled, torch.set_grad_enabled
    yield "anomalies", False, torch.is_anomaly_enabled, torch.set_anomaly_enabled
    yield "matmul", "highest", torch.get_float32_matmul_precision, torch.set_float32_matmul_precision
    yield "deterministic", False, torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms
    yield "mkldnn", True, *_attribute(backends.mkldnn, "enabled")
    yield "cudnn", False, *_attribute(backends.cudnn, "benchmark")
    yield "fastpath", True, backends.mha.get_fastpath_enabled, backends.mha.set_fastpath_enabled
    yield "flash", True, attention.flash_sdp_enabled, attention.enable_flash_sdp
    yield "efficient", True, attention.mem_efficient_sdp_enabled, attention.enable_mem_efficient_sdp
    yield "math", True, attention.math_sdp_enabled, attention.enable_math_sdp
    for kind in ("cpu", "cuda"):
        yield (
            f"autocast-{kind}", False,
            partial(torch.is_autocast_enabled, kind), partial(torch.set_autocast_enabled, kind),
        )  # fmt: skip


def _attribute(holder: Any, name: str) -> tuple[Callable[[], Any], Callable[[Any], object]]:
    return partial(getattr, holder, name), partial(setattr, holder, name)


def _default_device() -> Any:
    """None where none is set: then no call pays for asking."""
    return getattr(sys.modules.get("torch.utils._device"), "CURRENT_DEVICE", None)


def _folder() -> str:
    try:
        return str(Path.cwd())
    except OSError:  # it has been deleted
        return ""
