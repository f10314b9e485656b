"""The source of a class's methods: what its forward does can be read there, and nowhere else before it is called."""

from __future__ import annotations

import inspect
import textwrap
from typing import Any


def source_of(kind: Any, method: str) -> str:
    """The source of a method; empty where there is none."""
    try:
        return textwrap.dedent(inspect.getsource(inspect.unwrap(getattr(kind, method))))
    except (AttributeError, OSError, TypeError):
        return ""
