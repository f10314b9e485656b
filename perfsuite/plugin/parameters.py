"""What the parameters of an item say of the case that it measures, beside the item's name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from perfsuite.baseline.identity import changes_with_the_process, parameters
from perfsuite.errors import UsageError
from perfsuite.plugin.matrix import CaseParameters

_OWN = "perf_case"  # in the key already, by all that it holds


def digests(item: Any) -> dict[str, str]:
    """A digest for each parameter of an item that offers one, ``perf_case`` included."""
    return parameters(_values(item))


def case_digests(item: Any) -> dict[str, str]:
    """The same without ``perf_case``: what a baseline keeps."""
    return {name: found for name, found in digests(item).items() if name != _OWN}


def variant(item: Any, own: CaseParameters) -> str:
    """The ids of the parameters that stand beside ``perf_case``: with others, it is another case.

    pytest joins ids with hyphens, in the order of the decorators.
    """
    if _values(item).keys() <= {_OWN}:
        return ""
    whole = str(item.callspec.id)
    for before, after in ((f"{own.id}-", ""), (f"-{own.id}", "")):
        if before in whole:
            return whole.replace(before, after, 1)
    return whole


def check_key(item: Any, key: str) -> None:
    """Raises UsageError for a name under which no later run could find a baseline again."""
    fixed = os.environ.get("PYTHONHASHSEED", "random") != "random"
    if changes_with_the_process(key, () if fixed else _values(item).values()):
        raise UsageError(
            f"the name {key!r} is another one in every process: it holds the text of a set, or an address in memory, "
            "so that no baseline is found by it again",
            "give the parameter an id: pytest.param(..., id='...')",
        )


def _values(item: Any) -> Mapping[str, object]:
    """By name; those that plugins add for their own purposes begin with two underscores."""
    found: Mapping[str, object] = getattr(getattr(item, "callspec", None), "params", {})
    return {
        name: value.id if isinstance(value, CaseParameters) else value
        for name, value in found.items()
        if not name.startswith("__")
    }
