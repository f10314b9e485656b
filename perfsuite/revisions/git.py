"""Asks git: without its hooks, and without what an outer git has put into the environment."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO

from perfsuite.errors import EngineError, UsageError
from perfsuite.executors.processes import end, guarded

# What git sets for its hooks, for `rebase --exec` and for aliases: it would lead us to another repository or index.
_REDIRECTIONS = frozenset(
    f"GIT_{name}"
    for name in (
        "ALTERNATE_OBJECT_DIRECTORIES", "ATTR_SOURCE", "COMMON_DIR", "CONFIG", "DIR", "GRAFT_FILE",
        "IMPLICIT_WORK_TREE", "INDEX_FILE", "INTERNAL_SUPER_PREFIX", "NAMESPACE", "OBJECT_DIRECTORY", "PREFIX",
        "QUARANTINE_PATH", "REPLACE_REF_BASE", "SHALLOW_FILE", "WORK_TREE",
    )
)  # fmt: skip
_SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",  # no daemon for a folder that is gone in a minute
    "gc.auto=0",
    "maintenance.auto=false",
    "submodule.recurse=false",
    "core.splitIndex=false",  # a part of it would be written into the repository, wherever the index is
)
_LONG_S = 60  # what may take longer is guarded, which takes 20 ms itself
_GRACE_S = 3.0  # for what was asked to end


@dataclass(frozen=True)
class Repository:
    """Where a folder is: the top of its working tree, its path below that (may be "."), and whether history is cut."""

    top: Path
    below: Path
    shallow: bool


def repository(root: Path) -> Repository:
    """The repository that a folder is in.

    Raises UsageError without git, or outside of any working tree that git is willing to open.
    """
    done = git(root, "rev-parse", "--show-toplevel", "--show-prefix", "--is-shallow-repository")
    if done.returncode == 0:
        top, prefix, shallow = done.stdout.split("\n")[:3]
        return Repository(Path(top), Path(prefix), shallow == "true")
    if "dubious ownership" in done.stderr:
        raise UsageError(
            f"git does not open {root}: the folder belongs to another user",
            f"if you trust it, run `git config --global --add safe.directory {root}` (in a container, the path there)",
        )
    raise UsageError(
        f"{root} is not in the working tree of a git repository",
        "run inside the clone, and see that its .git is there (in a container, mount or copy it, too); "
        "or compare with a stored baseline instead: leave --perf-base away",
    )


def commit_of(top: Path, revision: str) -> str | None:
    """The full hash of the commit that a revision names, whatever the revision looks like; None if it names none."""
    done = git(top, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    found = done.stdout.strip()
    return found if done.returncode == 0 and is_hash(found) else None


def is_hash(text: str) -> bool:
    """Whether this is a full hash, of SHA-1 or SHA-256."""
    return len(text) in (40, 64) and set(text) <= set("0123456789abcdef")


def git(
    folder: Path, *arguments: str, timeout_s: float = 60, variables: Mapping[str, str] = MappingProxyType({})
) -> subprocess.CompletedProcess[str]:
    """Run git in a folder, with ``variables`` in its environment, whatever status it ends with.

    Raises UsageError if there is no git, EngineError if it does not finish in time.
    """
    settings = [word for setting in _SETTINGS for word in ("-c", setting)]
    asked = {"GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "LANGUAGE": "en"}
    try:
        return run(
            ["git", "-C", str(folder), *settings, *arguments], environment={**environment(), **asked, **variables},
            timeout_s=timeout_s, is_long=timeout_s > _LONG_S,
        )  # fmt: skip
    except FileNotFoundError:
        raise UsageError(
            "git was not found on the PATH, and --perf-base takes the base from it",
            "install git, or compare with a stored baseline instead: leave --perf-base away",
        ) from None
    except subprocess.TimeoutExpired:
        raise EngineError(
            f"`git {' '.join(arguments[:2])}` did not finish in {timeout_s:g} s in {folder}",
            "run it by hand to see what it waits for",
        ) from None


def git_bytes(folder: Path, *arguments: str) -> bytes:
    """What git prints, also where it is not UTF-8."""
    return git(folder, *arguments).stdout.encode("utf-8", "surrogateescape")


def environment() -> dict[str, str]:
    """The environment of this process without what redirects git."""
    return {name: value for name, value in os.environ.items() if name not in _REDIRECTIONS}


def run(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    folder: Path | None = None,
    output: IO[bytes] | None = None,
    timeout_s: float | None = None,
    is_long: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run a command in a process group of its own, of which nothing is left afterwards, also after Ctrl-C.

    Nor is it where this process is killed, if the command ``is_long``. Both of its streams are returned, or go to
    ``output``. Without a terminal it cannot ask anything. Raises OSError and subprocess.TimeoutExpired.
    """
    process = subprocess.Popen(
        guarded(command, grace_s=_GRACE_S) if is_long else command, cwd=folder, env=environment,
        start_new_session=True, stdin=subprocess.DEVNULL, stdout=output or subprocess.PIPE,
        stderr=output or subprocess.PIPE, encoding="utf-8", errors="surrogateescape",
    )  # fmt: skip
    late = threading.Event()
    try:
        with _limited(process, timeout_s, late):
            out, error = process.communicate()
    finally:
        end(process)
    if late.is_set():
        raise subprocess.TimeoutExpired(command, timeout_s or 0)
    return subprocess.CompletedProcess(command, process.returncode, out or "", error or "")


@contextmanager
def _limited(process: subprocess.Popen[str], seconds: float | None, late: threading.Event) -> Iterator[None]:
    """End a process when its time is over, by a thread: ``communicate`` asks a clock that tests can stop."""

    def stop() -> None:
        late.set()
        end(process)

    timer = threading.Timer(seconds, stop) if seconds else None
    if timer:
        timer.daemon = True
        timer.start()
    try:
        yield
    finally:
        if timer:
            timer.cancel()
