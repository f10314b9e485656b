"""The machine class: times are comparable within one, and never across two."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import sys
from collections.abc import Collection
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import msgspec

from perfsuite.baseline.cpu import this_cpu

# The instruction sets that decide which kernels torch and oneDNN choose.
_ISA = ("avx2", "fma", "avx512f", "avx512bw", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16",
        "amx_tile", "amx_int8", "amx_bf16", "asimd", "asimddp", "i8mm", "bf16", "sve")  # fmt: skip

_Number = Annotated[int, msgspec.Meta(ge=0, le=2**32)]


class Machine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What must be equal for two times to be comparable."""

    cpu: str
    isa: str
    cores: _Number
    os: str
    python: str
    torch: str
    threads: _Number
    accelerator: str = ""

    @property
    def id(self) -> str:
        """Readable and unique: the CPU, the cores, and a digest of everything."""
        digest = hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:8]
        name = re.sub(r"[^a-z0-9]+", "-", f"{self.accelerator or self.cpu}".lower()).strip("-")
        return f"{name}-{self.cores}c{self.threads}t-{digest}"

    def differences(self, other: Machine) -> tuple[str, ...]:
        """The fields in which another machine differs, as "name: theirs, here ours"."""
        return tuple(
            f"{name}: {getattr(other, name)!r}, here {getattr(self, name)!r}"
            for name in self.__struct_fields__
            if getattr(self, name) != getattr(other, name)
        )


@cache
def this_machine(threads: int, accelerator: str = "") -> Machine:
    """The class of this machine, for work on so many threads (and that accelerator)."""
    cpu, flags = this_cpu()
    return Machine(
        cpu=cpu,
        isa=isa_of(flags),
        cores=usable_cores(),
        os=f"{platform.system()} {platform.machine()}",
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        torch=_torch_version(),
        threads=threads,
        accelerator=accelerator,
    )


def isa_of(flags: Collection[str]) -> str:
    """The instruction sets that matter, of all that a CPU has."""
    return " ".join(name for name in _ISA if name in flags)


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _torch_version() -> str:
    try:
        return version("torch")
    except PackageNotFoundError:
        return "none"
