"""What a case's key says: model, technique, device, batch size, variant."""

from __future__ import annotations

import re
from dataclasses import dataclass

_KEY = re.compile(
    r"(?P<model>.+?)/(?P<technique>[^/\[\]]+)/(?P<device>[^/\[\]]+)/b(?P<batch_size>\d{1,9})(\[(?P<variant>.+)\])?"
)
ORIGINAL = "fp32"


@dataclass(frozen=True)
class Parts:
    model: str
    technique: str
    device: str
    batch_size: int
    variant: str = ""  # ids of further parameters


def parts(key: str) -> Parts | None:
    """The inverse of ``Case.of_model``; None for a callable, whose key is its test's node id."""
    match = None if "::" in key else _KEY.fullmatch(key)
    if match is None:
        return None
    return Parts(match["model"], match["technique"], match["device"], int(match["batch_size"]), match["variant"] or "")
