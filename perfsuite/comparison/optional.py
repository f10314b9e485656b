"""Packages that not everybody has."""

from __future__ import annotations

import importlib
from typing import Any

from perfsuite.errors import UnavailableError


def optional(module: str, what: str) -> Any:
    """A package that not everybody has. Raises UnavailableError, with how to get it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise UnavailableError(f"{what} needs {package}", f"pip install {package}") from error
