"""What a case's key says: model, technique, device, batch size, variant; and how sparse a technique's name is."""

from __future__ import annotations

import re
from dataclasses import dataclass

_KEY = re.compile(
    r"(?P<model>.+?)/(?P<technique>[^/\[\]]+)/(?P<device>[^/\[\]]+)/b(?P<batch_size>\d{1,9})(\[(?P<variant>.+)\])?"
)
_PRUNED = re.compile(r"(magnitude|structured)-(\d+(?:\.\d+)?)(?=$|[-+])")
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


def sparsity_of(technique: str) -> tuple[str, float] | None:
    """The family of a pruning technique, and its sparsity: 'magnitude-50+bf16' is ('magnitude+bf16', 0.5)."""
    match = _PRUNED.search(technique)
    if match is None:
        return None
    family = technique[: match.start()] + match[1] + technique[match.end() :]
    return family, float(match[2]) / 100
