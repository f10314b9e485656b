"""How a job can fail. Each can be sent from the process where it happened to the one that asked."""

from __future__ import annotations

from perfsuite.errors import EngineError


class WorkerGoneError(EngineError):
    """A worker died, or ``hung`` until its time was over; ``how`` is a few words on it."""

    def __init__(self, what: str, remedy: str, how: str, *, hung: bool = False) -> None:
        super().__init__(what, remedy)
        self.how = how
        self.hung = hung

    def __reduce__(self) -> tuple[object, ...]:
        return _worker_gone, (self.what, self.remedy, self.how, self.hung)


class RevisionFailedError(EngineError):
    """The test failed under one revision; ``reason`` is the line of it that says why."""

    def __init__(self, what: str, remedy: str, revision: str, reason: str) -> None:
        super().__init__(what, remedy)
        self.revision = revision
        self.reason = reason

    def __reduce__(self) -> tuple[object, ...]:
        return RevisionFailedError, (self.what, self.remedy, self.revision, self.reason)


class UnusedBaseError(EngineError):
    """Nothing that was loaded is from the base: the working tree would be compared with itself."""


def _worker_gone(what: str, remedy: str, how: str, hung: bool) -> WorkerGoneError:
    return WorkerGoneError(what, remedy, how, hung=hung)
