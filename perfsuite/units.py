"""Quantities with units, parsed and printed in one place: "3%", "24 MB", "1.5 ms", "0.5pp", "20 dB".

Values inside perfsuite are always in the base unit of their dimension: bytes, seconds, joules, a fraction
between 0 and 1, decibels, or a plain number. MB is 10**6 bytes, MiB is 2**20 bytes.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import Enum

from perfsuite.errors import LimitError


class Unit(Enum):
    """The dimension of a metric. The value is its name in stored files and messages."""

    BYTES = "bytes"
    SECONDS = "seconds"
    PER_SECOND = "examples/s"
    FRACTION = "fraction"
    RATIO = "ratio"
    DECIBEL = "dB"
    JOULES = "J"
    COUNT = "count"
    NUMBER = "number"


@dataclass(frozen=True)
class Quantity:
    """A number in base units. ``unit`` is None for a bare number; "%" and "pp" have their own flags."""

    value: float
    unit: Unit | None
    percent: bool = False
    points: bool = False


# suffix -> (factor to the base unit, dimension)
_SUFFIXES: dict[str, tuple[float, Unit]] = {
    "B": (1, Unit.BYTES),
    "kB": (1e3, Unit.BYTES),
    "KB": (1e3, Unit.BYTES),
    "MB": (1e6, Unit.BYTES),
    "GB": (1e9, Unit.BYTES),
    "KiB": (2**10, Unit.BYTES),
    "MiB": (2**20, Unit.BYTES),
    "GiB": (2**30, Unit.BYTES),
    "ns": (1e-9, Unit.SECONDS),
    "us": (1e-6, Unit.SECONDS),
    "µs": (1e-6, Unit.SECONDS),
    "ms": (1e-3, Unit.SECONDS),
    "s": (1, Unit.SECONDS),
    "/s": (1, Unit.PER_SECOND),
    "dB": (1, Unit.DECIBEL),
    "uJ": (1e-6, Unit.JOULES),
    "mJ": (1e-3, Unit.JOULES),
    "J": (1, Unit.JOULES),
    "kJ": (1e3, Unit.JOULES),
    "x": (1, Unit.RATIO),
}
# unit -> (size and name of each larger one, the smallest, its size)
_SCALES: dict[Unit, tuple[tuple[tuple[float, str], ...], str, float]] = {
    Unit.BYTES: (((1e9, "GB"), (1e6, "MB"), (1e3, "kB")), "B", 1),
    Unit.SECONDS: (((1, "s"), (1e-3, "ms"), (1e-6, "us")), "ns", 1e-9),
    Unit.JOULES: (((1e3, "kJ"), (1, "J"), (1e-3, "mJ")), "uJ", 1e-6),
}
_QUANTITY = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(\S*)\s*\Z")


def parse_quantity(text: str) -> Quantity:
    """Parse one quantity. Raises LimitError, naming the text and the units that exist."""
    match = _QUANTITY.match(text)
    if match is None:
        raise LimitError(f"{text!r} is not a quantity", "write a number and a unit, such as '5%', '24 MB' or '1.5 ms'")
    value, suffix = float(match[1]), match[2]
    if not math.isfinite(value):
        raise LimitError(f"{text!r} is too large for a number", "write a finite number")
    if suffix == "":
        return Quantity(value, None)
    if suffix == "%":
        return Quantity(value / 100, Unit.FRACTION, percent=True)
    if suffix == "pp":
        return Quantity(value / 100, Unit.FRACTION, points=True)
    if suffix not in _SUFFIXES:
        raise LimitError(f"unknown unit {suffix!r} in {text!r}", f"valid units: %, pp, {', '.join(_SUFFIXES)}")
    factor, unit = _SUFFIXES[suffix]
    return Quantity(value * factor, unit)


def format_value(value: float, unit: Unit) -> str:
    """Print a value in base units for people: 24.1 MB, 1.53 ms, 97.2%, 3.97x."""
    if unit in _SCALES:
        return _scaled(value, *_SCALES[unit])
    match unit:
        case Unit.PER_SECOND:
            return f"{value:,.4g}/s" if value < 1000 else f"{value:,.0f}/s"
        case Unit.FRACTION:
            return f"{value * 100:.4g}%"
        case Unit.RATIO:
            return f"{value:.3g}x"
        case Unit.DECIBEL:
            return f"{value:.1f} dB"
        case Unit.NUMBER:
            return f"{value:.4g}"
        case _:
            return f"{value:,.0f}"


def format_difference(difference: float, unit: Unit) -> str:
    """Print a signed difference in base units; of two fractions, in percentage points."""
    if unit is Unit.FRACTION:
        return f"{difference * 100:+.3g}pp"
    sign = "+" if difference >= 0 else "-"
    return sign + format_value(abs(difference), unit)


def format_change(ratio: float) -> str:
    """Print the ratio new/old as a signed change: 1.043 -> '+4.3%'."""
    change = (ratio - 1) * 100
    return f"{change:+.1f}%" if abs(change) >= 0.05 or change == 0 else f"{change:+.2g}%"


def _scaled(value: float, steps: tuple[tuple[float, str], ...], rest: str, smallest: float) -> str:
    for size, suffix in steps:
        if abs(value) >= size:
            return f"{value / size:.4g} {suffix}"
    return f"{value / smallest:.4g} {rest}"


def dtype_name(dtype: object) -> str:
    """A dtype of torch as people and files write it: "float32"."""
    return str(dtype).removeprefix("torch.")
