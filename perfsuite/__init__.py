"""perfsuite: stops performance regressions of PyTorch models.

``__init__.pyi`` lists what is exported and where it is; type checkers read it, and here each name loads at first use
(PEP 562).
"""

import ast
import importlib
from pathlib import Path
from typing import Any

__version__ = "0.1.0"


def _homes() -> dict[str, tuple[str, str]]:
    """The module and the attribute behind each exported name."""
    found = {}
    for node in ast.parse(Path(__file__).with_name("__init__.pyi").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            found.update({alias.name: (node.module, alias.name) for alias in node.names if alias.asname})
        elif isinstance(node, ast.Assign):  # another name than at home: load_model = storage.load
            module, _, attribute = ast.unparse(node.value).rpartition(".")
            found[ast.unparse(node.targets[0])] = (f"perfsuite.{module}", attribute)
    return found


_HOMES = _homes()
__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'perfsuite' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
