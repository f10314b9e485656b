"""How near a result's answers are to those of the model that it was made of, as a frozen value. Imports no torch."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from perfsuite.techniques.coverage import level_outside

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


@dataclass(frozen=True)
class Promise:
    """In dB: below ``least`` a result is an error, for something else than rounding has gone wrong; below ``usual`` a
    warning, for accuracy may suffer.

    ``unseen``: how much further off other inputs may be than those that were looked at, which is warned of, too.
    ``remedy``: what the warning says can be done.
    """

    least: float
    usual: float
    unseen: float = 0.0
    remedy: str = "leave the most sensitive layers in float (QuantizationConfig(accuracy_floor=...))"

    def warn_if_far(self, name: str, model: str, fidelity: Fidelity) -> None:
        """Warns (FidelityWarning), at the line that called us, of a result that is less near than usual."""
        if fidelity.decibels is None or fidelity.decibels >= self.usual + self.unseen:
            return
        more = f", and inputs that did not set its ranges may be {self.unseen:.0f} dB further off"
        warnings.warn(
            f"{name} of the {model} is at {fidelity}{more if self.unseen else ''}, where {self.usual:.0f} dB and more "
            f"are usual: look at its accuracy, or {self.remedy}",
            FidelityWarning,
            stacklevel=level_outside(),
        )


class FidelityWarning(UserWarning):
    """A result answers less like its model than results of that technique usually do."""


# Activations that stand out cost what weights do not: int8-static of MiniLM is at 16 dB, and keeps 99% of its accuracy.
# Codes that are read as floats give 10 dB and less.
WITH_ACTIVATIONS = Promise(least=12.0, usual=25.0)
# What lies outside of ranges is clipped. The data that set them is all inside, and says less about other inputs: of 31
# batches that eight others had set the ranges for, the worst were 1 to 6 dB below the first of the eight.
WITH_RANGES = Promise(least=12.0, usual=25.0, unseen=3.0)


def of_weights(bits: int) -> Promise | None:
    """What weights of that many bits are good for; None where random models give less than nothing."""
    least = WITH_ACTIVATIONS.usual - _PER_BIT * (8 - bits)
    return Promise(least, least) if least > 0 else None


def of_floats(significand: int, remedy: str) -> Promise:
    """What casts are good for, to floats with that many bits of significand.

    bf16 has 8, as codes of int8 have, and fp16 has 11. What is below ``least`` is not rounding, whatever the bits: a
    kernel that is wrong on this machine, say (grouped Conv1d in bf16 was seen at -0.8 dB on CPUs with AMX).
    """
    return Promise(WITH_ACTIVATIONS.least, WITH_ACTIVATIONS.usual + _PER_BIT * (significand - 8), remedy=remedy)


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
