"""Which files differ between a commit and the working tree, and what Python files said then. Nothing is checked out."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from perfsuite.errors import EngineError
from perfsuite.revisions.git import environment, git

_LINK, _SUBMODULE = "120000", "160000"
_TIMEOUT_S = 120
_MOST_WORDS = 200


@dataclass(frozen=True)
class FileDifference:
    """One file, by its path from the top. ``blob`` names what the commit has there, and is empty if it has nothing."""

    path: str
    blob: str
    is_here: bool
    is_plain: bool = True  # no symbolic link and no submodule, on either side

    @property
    def is_both(self) -> bool:
        return bool(self.blob) and self.is_here


def differences(top: Path, sha: str) -> tuple[FileDifference, ...]:
    """Of tracked and untracked files, by path; of what git ignores nothing is known. Raises EngineError."""
    listed = _output(top, "diff", "--raw", "-z", "--no-renames", "--no-abbrev", "--ignore-submodules=none", sha, "--")
    found: dict[str, FileDifference] = {}
    words = listed.split("\0")
    for head, path in zip(words[0::2], words[1::2], strict=False):
        before_mode, after_mode, blob, _, _ = head.removeprefix(":").split(" ")
        plain = not {before_mode, after_mode} & {_LINK, _SUBMODULE}
        there = "" if set(blob) == {"0"} else blob
        found[path] = FileDifference(path, there, (top / path).exists(), plain)
    for path in _output(top, "ls-files", "--others", "--exclude-standard", "-z").split("\0"):
        if path:
            blob = found[path].blob if path in found else ""
            found[path] = FileDifference(path, blob, True, not (top / path).is_symlink())
    for path in unseen_files(top):
        found.setdefault(path, FileDifference(path, "", True, False))
    return tuple(found[path] for path in sorted(found))


def unseen_files(top: Path) -> list[str]:
    """Tracked files that git was told not to look at (assume-unchanged, skip-worktree), where they are here."""
    listed = _output(top, "ls-files", "-v", "-z").split("\0")
    told = [entry[2:] for entry in listed if entry and (entry[0].islower() or entry[0] == "S")]
    return [path for path in told if (top / path).exists()]


def known_files(top: Path) -> frozenset[str]:
    """All files but those that git ignores."""
    listed = _output(top, "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    return frozenset(listed.split("\0"))


def texts_of(top: Path, blobs: Iterable[str]) -> Mapping[str, str]:
    """What blobs hold, as UTF-8; those that are none are missing. Raises EngineError."""
    wanted = sorted(set(blobs) - {""})
    if not wanted:
        return {}
    try:
        done = subprocess.run(
            ["git", "-C", str(top), "cat-file", "--batch"], input="\n".join(wanted).encode(), capture_output=True,
            env=environment(), timeout=_TIMEOUT_S, check=True,
        )  # fmt: skip
    except subprocess.SubprocessError:
        raise EngineError(
            f"git could not read {len(wanted)} files of the base", "see that the clone is complete"
        ) from None
    found, rest = {}, done.stdout
    while rest:
        head, _, rest = rest.partition(b"\n")
        name, kind, *size = head.decode().split(" ")
        if kind == "missing":
            continue
        data, rest = rest[: int(size[0])], rest[int(size[0]) + 1 :]
        try:
            found[name] = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            continue
    return found


def files_that_name(top: Path, words: Iterable[str]) -> list[str]:
    """Python files, tracked or new, in which one of the words stands; all of them where there are too many words."""
    given = [part for word in sorted(words) for part in ("-e", word)]
    if len(given) > 2 * _MOST_WORDS:
        return [path for path in known_files(top) if path.endswith(".py")]
    done = git(top, "grep", "-l", "-w", "-F", "-z", "--untracked", *given, "--", "*.py", timeout_s=_TIMEOUT_S)
    return [path for path in done.stdout.split("\0") if path]


def _output(top: Path, *arguments: str) -> str:
    done = git(top, *arguments, timeout_s=_TIMEOUT_S)
    if done.returncode != 0:
        raise EngineError(f"`git {' '.join(arguments[:2])}` failed: {done.stderr.strip()[-300:]}", "run it by hand")
    return done.stdout
