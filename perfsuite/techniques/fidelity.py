"""How near a result's answers are to those of the model that it was made of, as a frozen value. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

LEAST_AT_8_BITS = 25.0  # dB; 30 to 50 are usual, and codes that are read as floats give less than 10
_PER_BIT = 6.02  # dB
_checks: ContextVar[bool] = ContextVar("perfsuite_checks", default=True)


@dataclass(frozen=True)
class Fidelity:
    """The signal to noise ratio, in dB, of the output that follows worst, and what it was measured on.

    Without ``decibels`` nothing was measured, and ``on`` says why.
    """

    decibels: float | None
    on: str

    def __str__(self) -> str:
        return f"not checked: {self.on}" if self.decibels is None else f"{self.decibels:.1f} dB on {self.on}"


def promised(bits: int) -> float | None:
    """The least that weights of that many bits are good for, in dB; None where random models give less than nothing."""
    least = LEAST_AT_8_BITS - _PER_BIT * (8 - bits)
    return least if least > 0 else None


@contextmanager
def unchecked() -> Iterator[None]:
    """While open, techniques do not check what they have made: for who measures that, or wants it as it is."""
    token = _checks.set(False)
    try:
        yield
    finally:
        _checks.reset(token)


def checks() -> bool:
    """Whether results are checked here and now."""
    return _checks.get()
