"""A commit's files in a folder of their own, and a repository there that nothing else knows of.

It is what ``git clone --shared`` makes: objects stay where they are (gitrepository-layout(5), "alternates"). But that
command copies all objects of a shallow clone, is refused by some settings (safe.directory in the environment,
protocol.file.allow, clone.rejectShallow), and leaves the repository's settings and attributes behind, so that line
ends and filtered files (LFS, git-crypt) differ; therefore the parts are put together here. ``git worktree add`` has
none of these faults, but writes to the user's repository, and leaves that there when it is killed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from perfsuite.errors import EngineError
from perfsuite.revisions.git import git, git_bytes
from perfsuite.revisions.submodules import clone_submodule, has_commit, submodules

_CHECKOUT_TIMEOUT_S = 600
_SETTINGS = ("config", "config.worktree")
_COPIED = ("shallow", "info/attributes", "info/exclude")
_NO_ROOM = re.compile(r"No space left|quota|unable to (write|create)", re.IGNORECASE)
MAKE_ROOM = "make room there, or let TMPDIR name a folder that can be written"


def check_out(top: Path, sha: str, folder: Path) -> None:
    """Put the files of a commit of the repository at ``top`` into a new folder, its submodules', too.

    Nothing is written to that repository, and no hook is run. Git commands in the folder see what they would see
    in a worktree: the commit, branches, tags and settings. Raises EngineError, OSError.
    """
    places = _places(top)
    _make_repository(top, sha, folder, places)
    _write_files(sha, folder, places["."])
    paths = {module.name: module.path for module in submodules(top)}
    for module in submodules(folder):
        ours = top / paths.get(module.name, module.path)
        if has_commit(ours, module.commit):
            check_out(ours, module.commit, folder / module.path)
        else:
            clone_submodule(folder, module)


def _places(top: Path) -> dict[str, Path]:
    """Where the parts of a repository are: some are shared by its worktrees, some are the worktree's own."""
    names = (".", "objects", *_SETTINGS, *_COPIED)
    listed = git(top, "rev-parse", *(word for name in names for word in ("--git-path", name))).stdout
    return {name: top / place for name, place in zip(names, listed.split("\n"), strict=False)}


def _make_repository(top: Path, sha: str, folder: Path, places: dict[str, Path]) -> None:
    """Without files, but for them at a commit. Raises OSError, EngineError."""
    folder.mkdir(exist_ok=True)
    kind = {"GIT_DEFAULT_HASH": "sha1" if len(sha) == 40 else "sha256", "GIT_DEFAULT_REF_FORMAT": "files"}
    _require(git(folder, "init", "--quiet", "--template=", variables=kind), sha, folder)
    hidden = folder / ".git"
    for part in ("info", "objects/info"):
        (hidden / part).mkdir(exist_ok=True)
    (hidden / "objects/info/alternates").write_text(f"{places['objects']}\n", errors="surrogateescape")
    (hidden / "packed-refs").write_bytes(git_bytes(top, "for-each-ref", "--format=%(objectname) %(refname)"))
    (hidden / "HEAD").write_text(f"{sha}\n")
    for name in _COPIED:
        if places[name].is_file():
            shutil.copyfile(places[name], hidden / name)
    for name in _SETTINGS:
        _require(git(folder, "config", "--add", "include.path", str(places[name])), sha, folder)


def _write_files(sha: str, folder: Path, hidden: Path) -> None:
    """By the user's repository, for whose folder settings may hold alone, and whose filters may keep keys in it."""
    variables = {
        "GIT_DIR": str(hidden),
        "GIT_WORK_TREE": str(folder),
        "GIT_INDEX_FILE": str(folder / ".git" / "index"),
    }
    done = git(folder, "read-tree", "-m", "-u", sha, timeout_s=_CHECKOUT_TIMEOUT_S, variables=variables)
    _require(done, sha, folder)


def _require(done: subprocess.CompletedProcess[str], sha: str, folder: Path) -> None:
    if done.returncode != 0:
        said = "\n".join(done.stderr.strip().splitlines()[-5:]) or f"it ended with status {done.returncode}"
        has_no_room = done.returncode < 0 or _NO_ROOM.search(done.stderr)  # a signal may be a quota's
        remedy = MAKE_ROOM if has_no_room else "mend what git says, and try again"
        raise EngineError(f"git could not check {sha[:12]} out to {folder.parent}: {said}", remedy)
