"""How sparse a technique's name says that a model is."""

from __future__ import annotations

import re

_PRUNED = re.compile(r"(magnitude|structured)-(\d+(?:\.\d+)?)(?=$|[-+])")


def sparsity_of(technique: str) -> tuple[str, float] | None:
    """The family of a pruning technique, and its sparsity: 'magnitude-50+bf16' is ('magnitude+bf16', 0.5)."""
    match = _PRUNED.search(technique)
    if match is None:
        return None
    family = technique[: match.start()] + match[1] + technique[match.end() :]
    return family, float(match[2]) / 100
