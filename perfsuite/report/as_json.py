"""The whole run as JSON, for other programs; ``read`` takes it back. The schema is report.schema.json.

History of the version:
    1   first: machine, notes, verdicts, information; later, where there are any: samples, operators,
        better, commit, created; of a verdict futile. A reader ignores a field that it does not know.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec

from perfsuite.baseline.conflicts import has_markers
from perfsuite.baseline.schema import Count
from perfsuite.errors import UsageError
from perfsuite.protocols import Run
from perfsuite.spec import Direction, Verdict

VERSION: Literal[1] = 1


def _said(text: str) -> msgspec.Meta:
    return msgspec.Meta(description=text)


Milliseconds = Annotated[float, msgspec.Meta(ge=0, le=1e12)]
_MOST = 1e100  # of a number that nobody has declared


class Report(msgspec.Struct, frozen=True, omit_defaults=True):
    """A run of perfsuite. Values are in base units: bytes, seconds, fractions from 0 to 1. Keys are case keys."""

    version: Literal[1]
    machine: dict[str, Any]
    notes: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    information: Annotated[dict[str, dict[str, Any]], _said("What was measured and not judged, by case and name")]
    samples: Annotated[
        dict[str, tuple[tuple[Milliseconds, ...], ...]], _said("Milliseconds of each call, by case and block")
    ] = {}
    operators: Annotated[
        dict[str, dict[str, tuple[Count, Count]]], _said("Calls accepted and calls now, by case and operator")
    ] = {}
    better: Annotated[dict[str, Direction], _said("Which way is better, of metrics that are not built in")] = {}
    commit: str = ""
    created: Annotated[str, _said("ISO 8601")] = ""


class _Version(msgspec.Struct):
    version: Annotated[int, msgspec.Meta(ge=0, le=2**31)]


def lines(run: Run) -> Iterator[str]:
    """One JSON object. What is no JSON value in ``information`` becomes text; NaN and infinity become null."""
    content = Report(VERSION, **{name: getattr(run, name) for name in Report.__struct_fields__[1:]})
    found: dict[str, object] = msgspec.to_builtins(content, enc_hook=str)
    yield "{"
    for index, (name, value) in enumerate(found.items()):
        text = msgspec.json.encode(value)
        if name != "samples":  # a line for each of thousands of numbers helps nobody
            text = msgspec.json.format(text, indent=1)
        first, *rest = text.decode().split("\n")
        *body, last = [f' "{name}": {first}', *(f" {line}" for line in rest)]
        yield from body
        yield last + ("," if index < len(found) - 1 else "")
    yield "}"


def read(text: str | bytes, name: str = "the report") -> Run:
    """The run that ``lines`` wrote. Raises UsageError, naming the file, for anything else."""
    try:
        version = msgspec.json.decode(text, type=_Version).version
        if version > VERSION:
            raise UsageError(f"{name} has version {version}, this perfsuite reads {VERSION}", "update perfsuite")
        report = msgspec.json.decode(text, type=Report)
        _check_numbers([report.machine, report.information])
    except (msgspec.MsgspecError, RecursionError, UnicodeError, ValueError) as error:
        what = "has a merge conflict" if has_markers(_bytes(text)) else f"is no report of perfsuite: {error}"
        raise UsageError(f"{name} {what}", "write one with --perf-report=FILE.json") from error
    return Run(**{name: getattr(report, name) for name in Report.__struct_fields__[1:]})


def _check_numbers(value: object) -> None:
    """Raises ValueError for a number that nothing can be computed with, wherever it stands."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            _check_numbers(one)
    if isinstance(value, int | float) and not abs(value) <= _MOST:
        raise ValueError(f"it holds a number beyond {_MOST:g}")


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of what ``lines`` writes."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(Report)}
