"""What a CPU is called, so that two of a kind have one name, and two of different kinds have two."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_ARM = (  # what an ARM CPU says of itself in the place of a name
    ("CPU implementer", "implementer"),
    ("CPU part", "part"),
    ("CPU variant", "variant"),
    ("CPU revision", "revision"),
)


def this_cpu() -> tuple[str, frozenset[str]]:
    """Name and feature flags: from /proc/cpuinfo where there is one, else what the system or Python knows."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return _name_on_a_mac() or _name_of_python(), frozenset()
    return cpu_of(text)


def cpu_of(text: str) -> tuple[str, frozenset[str]]:
    """The same of the text of a /proc/cpuinfo."""
    fields: dict[str, str] = {}
    for key, value in _fields(text):
        fields.setdefault(key, value)
    name = fields.get("model name") or fields.get("cpu") or fields.get("uarch") or _name_of_python()
    family = "".join(f" {key} {fields[key]}" for key in ("cpu family", "model") if key in fields)
    flags = fields.get("flags") or fields.get("Features") or ""
    return name + family.replace("cpu family", "family") + _arm_cores(text), frozenset(flags.split())


def _arm_cores(text: str) -> str:
    """Implementer, part, variant and revision: of each kind of core, where there are several (big.LITTLE)."""
    found: dict[str, set[str]] = {}
    for key, value in _fields(text):
        found.setdefault(key, set()).add(value)
    return "".join(f" {word} {'/'.join(sorted(found[key]))}" for key, word in _ARM if key in found)


def _fields(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        key, _, value = line.partition(":")
        yield key.strip(), value.strip()


def _name_on_a_mac() -> str:
    """Such as "Apple M4 Pro"; Python only knows that it is an ARM."""
    if sys.platform != "darwin":
        return ""
    command = ["sysctl", "-n", "machdep.cpu.brand_string"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _name_of_python() -> str:
    return platform.processor() or platform.machine()
