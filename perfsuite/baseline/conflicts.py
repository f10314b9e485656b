"""A baseline file that git could not merge: found by its markers, taken apart, and merged part by part."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from perfsuite.baseline.schema import VERSION, BaselineFile, Entry

_MARKERS = tuple(re.compile(b"^" + letter * 7 + rb"(?=[ \r\n])", re.MULTILINE) for letter in (b"<", b"=", b">"))

Part = tuple[str, str, str]  # case, field of its entry, and machine where the field has one for each


class Side(Enum):
    """As git names them: ours is what was checked out, theirs what came; in a rebase that is the other way round."""

    BASE = "base"
    OURS = "ours"
    THEIRS = "theirs"


@dataclass(frozen=True)
class Merged:
    """The whole file, and what both sides changed, each in another way. Such parts are as the base has them."""

    content: BaselineFile
    undecided: tuple[Part, ...]


def has_markers(data: bytes) -> bool:
    """Whether git has left conflict markers in a text; no line of JSON starts like one."""
    return all(marker.search(data) for marker in _MARKERS)


def sides_of(data: bytes) -> dict[Side, bytes]:
    """The texts of both sides of a file with markers, and of their base where it is shown (``diff3``)."""
    starts = {b"<" * 7: {Side.OURS}, b"|" * 7: {Side.BASE}, b"=" * 7: {Side.THEIRS}, b">" * 7: set(Side)}
    texts = dict.fromkeys(Side, b"")
    wanted, has_base = set(Side), False
    for line in data.splitlines(keepends=True):
        if line[:7] in starts:
            wanted = starts[line[:7]]
            has_base = has_base or wanted == {Side.BASE}
        else:
            texts.update({side: texts[side] + line for side in wanted})
    return texts if has_base else {side: texts[side] for side in (Side.OURS, Side.THEIRS)}


def merge(sides: Mapping[Side, BaselineFile], preferred: Side | None = None) -> Merged:
    """Part by part: what one side changed is taken from it, what both did from the preferred one.

    A part is the exact numbers of a case, its scores, or its time on one machine.
    """
    parts = {side: dict(_parts(sides.get(side, BaselineFile()))) for side in Side}
    everywhere = sorted({part for found in parts.values() for part in found})
    chosen = {part: _choice({side: found.get(part) for side, found in parts.items()}) for part in everywhere}
    values = {part: parts[side or preferred or Side.BASE].get(part) for part, side in chosen.items()}
    undecided = () if preferred else tuple(part for part, side in chosen.items() if side is None)
    machines = {**sides[Side.THEIRS].machines, **sides[Side.OURS].machines}
    return Merged(_assembled({part: value for part, value in values.items() if value is not None}, machines), undecided)


def _choice(values: Mapping[Side, Any]) -> Side | None:
    """The side that a part is taken from; None if both changed it."""
    base, ours, theirs = values[Side.BASE], values[Side.OURS], values[Side.THEIRS]
    if theirs in (base, ours):
        return Side.OURS
    return Side.THEIRS if ours == base else None


def _parts(file: BaselineFile) -> Iterator[tuple[Part, Any]]:
    for case, entry in file.cases.items():
        for field in entry.__struct_fields__:
            value = getattr(entry, field)
            if isinstance(value, dict):
                yield from (((case, field, machine), one) for machine, one in value.items())
            elif value != getattr(_NOTHING, field):
                yield (case, field, ""), value


def _assembled(parts: Mapping[Part, Any], machines: Mapping[str, Any]) -> BaselineFile:
    fields: dict[str, dict[str, Any]] = {}
    for (case, field, machine), value in parts.items():
        entry = fields.setdefault(case, {})
        if machine:
            entry.setdefault(field, {})[machine] = value
        else:
            entry[field] = value
    used = {machine for _, _, machine in parts}
    known = {name: machine for name, machine in machines.items() if name in used}
    return BaselineFile(VERSION, known, {case: Entry(**entry) for case, entry in fields.items()})


_NOTHING = Entry()
