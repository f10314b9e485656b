"""Which layers a technique takes: by name, by part of the tree, by type."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from perfsuite.errors import TechniqueError


def selected(model: nn.Module, include: Sequence[str] | str, exclude: Sequence[str] | str) -> frozenset[str]:
    """Names of the modules that are included (all, if nothing is said) and not excluded.

    An entry is a module's name ("layers.0.attention"), a pattern of names ("*.attention"), or a type
    ("LayerNorm"); each takes everything below it along.

    Raises TechniqueError for an entry that matches nothing.
    """
    include, exclude = names(include), names(exclude)
    types = {name: type(module).__name__ for name, module in model.named_modules()}
    for entry in (*include, *exclude):
        if not any(_matches(entry, name, types) for name in types):
            near = difflib.get_close_matches(entry, [*types, *types.values()], n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
            raise TechniqueError(
                f"{entry!r} matches no layer of the {type(model).__name__}",
                f"{hint}give a name, a pattern such as '*.attention.*', or a type such as 'Linear'",
            )
    return frozenset(
        name
        for name in types
        if (not include or any(_matches(entry, name, types) for entry in include))
        and not any(_matches(entry, name, types) for entry in exclude)
    )


def names(entries: Sequence[str] | str) -> tuple[str, ...]:
    """One entry or several, as a tuple."""
    return (entries,) if isinstance(entries, str) else tuple(entries)


def _matches(entry: str, name: str, types: dict[str, str]) -> bool:
    parts = name.split(".") if name else []
    ancestors = [".".join(parts[:end]) for end in range(len(parts) + 1)]
    return any(types[ancestor] == entry or (ancestor and fnmatchcase(ancestor, entry)) for ancestor in ancestors)
