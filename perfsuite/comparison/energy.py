"""Energy, where the machine counts it: Linux powercap (RAPL) for the CPU, NVML for an NVIDIA GPU.

The counters are of the whole package or board: everything else that runs there is in them. RAPL:
https://docs.kernel.org/power/powercap/powercap.html; since Linux 5.10 only root may read it unless
the machine's owner allows more (CVE-2020-8694).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from perfsuite.measure.clock import Clock, RealClock
from perfsuite.measure.stack import with_room

if TYPE_CHECKING:
    import torch

POWERCAP = Path("/sys/class/powercap")
SEGMENT_NS = 400_000_000  # RAPL counts about every millisecond, NVML about every 100


class Meter(Protocol):
    """Counts energy. ``what`` says of what."""

    @property
    def what(self) -> str: ...

    def joules(self) -> float:
        """Energy used since some fixed moment; it never falls."""


@dataclass(frozen=True)
class Absent:
    """There is no meter; ``why`` is worth saying, or empty."""

    why: str = ""


@dataclass
class _Domain:
    """One RAPL counter, which starts again at 0 beyond its range."""

    folder: Path
    range_uj: int
    last_uj: int = 0
    wrapped_uj: int = 0

    def microjoules(self) -> int:
        now = _number(self.folder / "energy_uj")
        if now < self.last_uj:
            self.wrapped_uj += self.range_uj
        self.last_uj = now
        return self.wrapped_uj + now


@dataclass(frozen=True)
class Rapl:
    """The CPU packages, and their memory where it has a counter of its own."""

    domains: tuple[_Domain, ...]
    what: str = "the CPU packages"

    def joules(self) -> float:
        return sum(domain.microjoules() for domain in self.domains) / 1e6


@dataclass(frozen=True)
class Nvml:
    """One NVIDIA GPU, from the Volta generation on."""

    handle: Any
    nvml: Any = field(repr=False)
    what: str = "the GPU board"

    def joules(self) -> float:
        return float(self.nvml.nvmlDeviceGetTotalEnergyConsumption(self.handle)) / 1e3  # millijoules


def find_meter(device: torch.device, powercap: Path = POWERCAP) -> Meter | Absent:
    """What counts the energy of work on that device, if anything does."""
    if device.type == "cuda":
        return find_nvml(device)
    return find_rapl(powercap) if device.type == "cpu" else Absent()


def find_rapl(root: Path = POWERCAP) -> Rapl | Absent:
    """The counters of ``package-*`` and ``dram``.

    Not ``core`` and ``uncore``, which are parts of a package; not ``psys``, which has packages in it; and
    not the folders ``intel-rapl-mmio:*``, which count the same once more.
    """
    folders = [path.parent for path in sorted(root.glob("intel-rapl:*/name"))]
    try:
        counted = [folder for folder in folders if _is_counted((folder / "name").read_text().strip())]
        domains = tuple(_Domain(folder, _number(folder / "max_energy_range_uj")) for folder in counted)
        meter = Rapl(domains)
        meter.joules()
    except (OSError, ValueError) as error:
        return Absent(f"energy is counted here, but cannot be read: {error}")
    return meter if domains else Absent()


def find_nvml(device: torch.device) -> Nvml | Absent:
    """The counter of a CUDA device, by its UUID: NVML numbers devices in another order than CUDA."""
    import torch

    try:
        nvml: Any = importlib.import_module("pynvml")
    except ImportError:
        return Absent("the GPU's energy needs NVML: pip install nvidia-ml-py")
    try:
        nvml.nvmlInit()
        uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
        meter = Nvml(nvml.nvmlDeviceGetHandleByUUID(uuid), nvml)
        meter.joules()
    except nvml.NVMLError as error:
        return Absent(f"the GPU's energy cannot be read: {error}")
    return meter


def joules_per_call(
    arms: Mapping[str, Callable[[], object]], meter: Meter, rounds: int, clock: Clock | None = None
) -> dict[str, tuple[float, ...]]:
    """Energy of one call of each arm, once for each round; arms take turns, every other round backwards.

    Empty if the counter does not move: virtual machines show counters that stand still.
    """
    clock = clock or RealClock()
    found: dict[str, list[float]] = {name: [] for name in arms}
    for number in range(rounds):
        for name in tuple(arms)[:: -1 if number % 2 else 1]:
            found[name].append(_segment(arms[name], meter, clock))
    moves = all(value > 0 for values in found.values() for value in values)
    return {name: tuple(values) for name, values in found.items()} if moves else {}


@with_room
def _segment(arm: Callable[[], object], meter: Meter, clock: Clock) -> float:
    """Joules of one call, over back-to-back calls; the first, on a cold cache, is not counted."""
    arm()
    calls, start, before = 0, clock.now_ns(), meter.joules()
    while clock.now_ns() - start < SEGMENT_NS:
        arm()
        calls += 1
    return (meter.joules() - before) / max(calls, 1)


def _is_counted(name: str) -> bool:
    return name.startswith("package") or name == "dram"


def _number(path: Path) -> int:
    return int(path.read_text())
