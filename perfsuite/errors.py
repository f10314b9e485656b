"""Every error that perfsuite raises on purpose.

PerfsuiteError                 says what, which value, and the remedy
|-- UsageError                 what was asked for is not possible as written
|   |-- UnknownNameError       no model, technique, metric, reporter or device has that name
|   |-- DuplicateNameError     the name is taken
|   |-- OutputError            a model's output holds nothing that can be compared
|   |-- LimitError             a limit, unit or quantity does not parse or does not fit its metric
|   `-- NotRepeatableError     a callable worked once, and a later call of it raised
|-- ModelError                 a model, its weights or its outputs cannot be used
|   |-- NonFiniteError         NaN or infinity in a parameter, a buffer or an output
|   `-- UnavailableError       a model, dataset or device is not to be had on this machine
|-- TechniqueError             a technique does not apply to this model
|-- StorageError               a saved model is missing, broken or foreign
|-- BaselineError              a baseline file is broken, hostile or from the future
|-- HistoryError             a history is missing, broken, foreign or cannot be written
`-- EngineError                a worker process died, hung or answered out of turn
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PerfsuiteError(Exception):
    """Base of all errors raised on purpose: one sentence of what went wrong, and the remedy."""

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what, remedy)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what}\n  remedy: {self.remedy}" if self.remedy else self.what


class UsageError(PerfsuiteError):
    """What was asked for is not possible as written."""


class UnknownNameError(UsageError):
    """No registered thing has that name; the message lists the nearest that exist."""

    def __init__(self, noun: str, name: str, known: Iterable[str]) -> None:
        valid = sorted(known)
        near = difflib.get_close_matches(name, valid, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(repr(n) for n in near)}? " if near else ""
        super().__init__(f"unknown {noun} {name!r}", f"{hint}valid names: {', '.join(valid) or '(none)'}")
        self.noun = noun
        self.name = name

    def __reduce__(self) -> tuple[type[PerfsuiteError], tuple[str, str]]:
        return (UsageError, (self.what, self.remedy))


class DuplicateNameError(UsageError):
    """The name is taken."""


class LimitError(UsageError):
    """A limit, unit or quantity does not parse, or does not fit its metric."""


class OutputError(UsageError):
    """A model's output holds nothing that can be compared."""


class NotRepeatableError(UsageError):
    """A callable worked once, and a later call of it raised: what is timed is called many times."""


class ModelError(PerfsuiteError):
    """A model, its weights or its outputs cannot be used."""


class NonFiniteError(ModelError):
    """NaN or infinity in a parameter, a buffer or an output."""


class UnavailableError(ModelError):
    """A model, dataset or device is not to be had on this machine."""


class TechniqueError(PerfsuiteError):
    """A technique does not apply to this model."""


class StorageError(PerfsuiteError):
    """A saved model is missing, broken or foreign."""


class BaselineError(PerfsuiteError):
    """A baseline file is broken, hostile or from the future."""


class HistoryError(PerfsuiteError):
    """A history is missing, broken, foreign or from the future, or cannot be written."""


class EngineError(PerfsuiteError):
    """A worker process died, hung or answered out of turn."""


def first_line(error: BaseException) -> str:
    """What an error of somebody else's says, without the pages that may follow; its class where it says nothing."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
