"""What went wrong in a rank, as it tells the first one. Imports no torch."""

from __future__ import annotations

import re
import traceback
from dataclasses import dataclass

from perfsuite.errors import EngineError, PerfsuiteError, UsageError, first_line

_LOST = re.compile(r"gloo|nccl|connection (closed|reset)|broken pipe|timed? ?out|peer", re.IGNORECASE)


@dataclass(frozen=True)
class Failure:
    """``is_lost``: it has lost contact, so that another rank is the cause. ``where``: its own traceback."""

    what: str
    remedy: str
    where: str
    is_lost: bool = False
    kind: type[PerfsuiteError] = EngineError

    @staticmethod
    def of(error: BaseException) -> Failure:
        where = "".join(traceback.format_exception(error))
        if isinstance(error, PerfsuiteError):
            kind = UsageError if isinstance(error, UsageError) else EngineError
            return Failure(error.what, error.remedy, where, kind=kind)
        return Failure(f"{type(error).__name__}: {first_line(error)}", "", where, has_lost_contact(error))

    def as_error(self, rank: int, ranks: int) -> PerfsuiteError:
        error = self.kind(f"rank {rank} of {ranks} failed: {self.what}", self.remedy)
        error.add_note(f"in rank {rank}:\n{self.where}")
        return error


def has_lost_contact(error: BaseException) -> bool:
    """Whether it tells of another process that has gone: torch has no class of its own for that over gloo."""
    return isinstance(error, RuntimeError | OSError) and _LOST.search(str(error)) is not None
