"""Packages that not everybody has."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any

from perfsuite.errors import UnavailableError


def require(modules: Iterable[str], what: str, extra: str) -> None:
    """Raises UnavailableError for the first of them that is not installed."""
    for module in modules:
        optional(module, what, extra)


def optional(module: str, what: str, extra: str = "") -> Any:
    """A package that not everybody has. Raises UnavailableError, with how to get it: an extra of ours, or by itself."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        wanted = f"'perfsuite[{extra}]'" if extra else package
        raise UnavailableError(f"{what} needs {package}", f"pip install {wanted}") from error
