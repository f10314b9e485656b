"""The command on baselines that git could not merge: resolve."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perfsuite.cli.ini import storage_of
from perfsuite.cli.output import Storage, near, read, say
from perfsuite.errors import BaselineError, UsageError
from perfsuite.files import read_regular

if TYPE_CHECKING:
    from perfsuite.baseline.conflicts import Part, Side
    from perfsuite.baseline.store import Store

_SHOWN = 20


def resolve(
    files: Annotated[list[Path] | None, typer.Argument(help="Baseline files; all with a conflict by default.")] = None,
    ours: Annotated[bool, typer.Option("--ours", help="What both sides changed: as git's 'ours' has it.")] = False,
    theirs: Annotated[
        bool, typer.Option("--theirs", help="What both sides changed: as git's 'theirs' has it.")
    ] = False,
    storage: Storage = None,
) -> None:
    """Settle merge conflicts in baselines part by part: what one side changed is taken from that side.

    A part is the exact numbers of a case, its scores, or its time on one machine. What both sides changed is
    listed, and its file left as it is, unless --ours or --theirs says which to take.
    """
    from perfsuite.baseline.conflicts import Side
    from perfsuite.baseline.store import Store

    if ours and theirs:
        raise UsageError("--ours and --theirs contradict each other", "give one of them")
    store = Store(storage_of(storage))
    found = files or list(_conflicted(store))
    preferred = Side.OURS if ours else Side.THEIRS if theirs else None
    undecided = {path: parts for path in found if (parts := _settle(store, path, preferred))}
    if not found:
        say(f"no baseline in {near(store.folder)} has a merge conflict")
    if undecided:
        raise _refusal(undecided)


def _conflicted(store: Store) -> Iterator[Path]:
    """The files with a conflict; what is in a bucket no git has merged."""
    from perfsuite.baseline.conflicts import has_markers

    if isinstance(store.folder, Path):
        yield from (path for path in sorted(store.folder.glob("*.json")) if has_markers(read_regular(path)))


def _settle(store: Store, path: Path, preferred: Side | None) -> tuple[Part, ...]:
    """Write the merged file, unless there is something undecided, which is returned."""
    from perfsuite.baseline.conflicts import merge

    texts = _sides(path)
    try:
        sides = {side: store.decode(path, text) for side, text in texts.items()}
    except BaselineError as error:
        raise BaselineError(
            f"a side of {path} is no baseline file: {error.what}",
            f"take one side whole: git checkout --ours -- {shlex.quote(str(path))} (or --theirs)",
        ) from error
    merged = merge(sides, preferred)
    if not merged.undecided:
        store.put(path, merged.content)
        seen = near(path)
        say(f"resolved: {seen}, {len(merged.content.cases)} cases; now: git add {shlex.quote(str(seen))}")
    return merged.undecided


def _sides(path: Path) -> dict[Side, bytes]:
    """As git's index has them, which is exact; else as the markers in the file tell."""
    from perfsuite.baseline.conflicts import Side, has_markers, sides_of

    data = read(path, "a baseline file")
    if not has_markers(data):
        raise UsageError(f"{path} has no merge conflict", "name a file that has, or none for all")
    stages = _stages(path.resolve())
    return {Side.BASE: b'{"version": 1}'} | stages if {Side.OURS, Side.THEIRS} <= stages.keys() else sides_of(data)


def _stages(path: Path) -> dict[Side, bytes]:
    """What git's index keeps of an unmerged file: nothing once it was added, or outside of a repository."""
    from perfsuite.baseline.conflicts import Side
    from perfsuite.revisions.git import git, git_bytes

    try:
        listed = git(path.parent, "ls-files", "--unmerged", "-z", "--", path.name).stdout
    except UsageError:  # there is no git here
        return {}
    stages = (line.partition("\t")[0].split() for line in listed.split("\0") if line)
    return {list(Side)[int(number) - 1]: git_bytes(path.parent, "cat-file", "blob", blob) for _, blob, number in stages}


def _refusal(undecided: dict[Path, tuple[Part, ...]]) -> UsageError:
    lines = [": ".join(filter(None, part)) for parts in undecided.values() for part in parts]
    more = [f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    listed = "\n  ".join(["both sides changed", *lines[:_SHOWN], *more])
    return UsageError(
        listed, f"say which to take: perfsuite baseline resolve --ours{_names(list(undecided))} (or --theirs)"
    )


def _names(paths: Sequence[Path]) -> str:
    return "".join(f" {shlex.quote(str(near(path)))}" for path in paths)
