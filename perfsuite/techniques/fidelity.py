"""How near a result's answers are to those of the model that it was made of, as a frozen value. Imports no torch."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from perfsuite.techniques.coverage import outside

LEAST_AT_8_BITS = 25.0  # dB; 30 to 50 are usual, and codes that are read as floats give less than 10
UNUSABLE = 10.0  # dB: a third of the answer is noise
_PER_BIT = 6.02  # dB
_checks: ContextVar[bool] = ContextVar("perfsuite_checks", default=True)


class FidelityWarning(UserWarning):
    """A result is further from its model than is usual, by the noise of quantization."""


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


def warn_of_noise(name: str, model: str, reached: float, on: str) -> None:
    """Warns (FidelityWarning), at the line that called us, of a result as noisy as its layers make it."""
    warnings.warn(
        f"{name} has left {reached:.1f} dB of the {model}'s answer on {on}, where {LEAST_AT_8_BITS:.0f} and more are "
        "usual at 8 bits; exclude= leaves sensitive layers in float, and accuracy_floor= finds them",
        FidelityWarning,
        stacklevel=outside(),
    )


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
