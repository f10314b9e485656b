"""Temporary working trees of other commits: made on demand, gone afterwards, whatever happens.

The folder of each carries its owner in its name (perfsuite.temporary). What an owner left behind that was killed
is removed by whoever comes next; nothing else ever is.
"""

from __future__ import annotations

import atexit
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from perfsuite.errors import EngineError, PerfsuiteError, UsageError
from perfsuite.measure.clock import RealClock
from perfsuite.progress import tell
from perfsuite.revisions.git import environment, git, is_hash, repository, run
from perfsuite.revisions.ignored import add_ignored
from perfsuite.revisions.submodules import clone_submodule, has_commit, submodules
from perfsuite.temporary import abandoned_folders, delete, is_abandoned, new_folder

_KIND = "base"
_CHECKOUT_TIMEOUT_S = 600
_TRIES = 6  # while another git is at work: waits 0.1, 0.2, 0.4, ... s, 3 s in all
_NO_ROOM = re.compile(r"No space left|quota|unable to (write|create)|died of signal", re.IGNORECASE)
_MAKE_ROOM = "make room there, or let TMPDIR name a folder that can be written"
_BUSY = re.compile(r"\.lock'|/worktrees[/']|File exists")  # locks, and what it has half made or half removed


@dataclass(frozen=True)
class BaseTree:
    """A commit, checked out: ``root`` is there what the session's root is here, ``top`` the repository's top.

    ``ignored`` are the files that git ignores and that were added from the working tree; paths from the top.
    """

    root: Path
    top: Path
    sha: str
    ignored: tuple[str, ...] = ()


class Worktrees:
    """The temporary worktrees of one session, one for each commit. Close it when done, best by ``with``.

    ``build_command`` is run by the shell in each new tree's root. Only the process that made this
    object ever removes anything: forked workers may close it in vain. Raises UsageError where there
    is no repository.
    """

    def __init__(self, root: Path, build_command: str | None = None) -> None:
        self._here = repository(root)
        self._build_command = build_command
        self._owner = os.getpid()
        self._trees: dict[str, BaseTree | PerfsuiteError] = {}
        self._folders: list[Path] = []
        self._repositories: list[Path] = []  # that have worktrees of ours: this one, and its submodules

    def __enter__(self) -> Worktrees:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def checkout(self, sha: str) -> BaseTree:
        """The tree of a commit, given by its full hash; made and built at the first call for it.

        The output of the build is in build.log beside the tree. Raises EngineError if it cannot be made
        or built, UsageError if it has no counterpart of the root; the same again at the next call.
        """
        if sha not in self._trees:
            if not is_hash(sha) or os.getpid() != self._owner:
                raise ValueError(f"{sha!r} is no full hash, or process {os.getpid()} is not {self._owner}")
            self._trees[sha] = self._try(sha)
        tree = self._trees[sha]
        if isinstance(tree, PerfsuiteError):
            raise tree.with_traceback(None)
        return tree

    @property
    def ignored(self) -> tuple[str, ...]:
        """The files that git ignores and that were added to trees; paths from the top."""
        trees = (tree for tree in self._trees.values() if isinstance(tree, BaseTree))
        return tuple(dict.fromkeys(name for tree in trees for name in tree.ignored))

    def close(self) -> None:
        """Remove all trees. Raises EngineError, having tried everything, if something could not be removed."""
        if os.getpid() != self._owner:
            return
        self._trees.clear()
        for folder in tuple(self._folders):
            self._remove(folder)
        if self._folders:
            raise EngineError(
                f"could not remove {', '.join(map(str, self._folders))}",
                "remove it by hand, then run `git worktree prune`",
            )
        atexit.unregister(self._close_at_exit)

    def _close_at_exit(self) -> None:
        """Nobody could handle an error any more; whoever comes next tries again."""
        with suppress(PerfsuiteError):
            self.close()

    def _try(self, sha: str) -> BaseTree | PerfsuiteError:
        folder = None
        try:
            folder = self._new_folder()
            return self._make(sha, folder)
        except BaseException as error:
            if folder is not None:
                self._remove(folder)
            if isinstance(error, PerfsuiteError):
                return error
            raise

    def _new_folder(self) -> Path:
        atexit.register(self._close_at_exit)
        try:
            self._folders.append(new_folder(_KIND))
        except OSError as error:
            raise EngineError(
                f"no folder for the base can be made in {tempfile.gettempdir()}: {error.strerror}", _MAKE_ROOM
            ) from error
        return self._folders[-1]

    def _make(self, sha: str, folder: Path) -> BaseTree:
        tell(f"checking out the base {sha[:12]}", 0, 2)
        top = folder / (self._here.top.name or "tree")  # a flat package may be called like its folder
        self._add(self._here.top, sha, top)
        tree = BaseTree(top / self._here.below, top, sha)
        if not tree.root.is_dir():
            raise UsageError(
                f"commit {sha[:12]} has no folder {self._here.below}, where the tests are run",
                "compare with a later revision, or set --rootdir to a folder that both have",
            )
        if self._build_command:
            tell(f"building the base {sha[:12]}", 1, 2)
            _build(self._build_command, tree, folder / "build.log")
        tree = replace(tree, ignored=add_ignored(self._here.top, top))  # a build may have made some of them
        tell(f"the base {sha[:12]} is ready", 2, 2)
        return tree

    def _add(self, top: Path, sha: str, folder: Path) -> None:
        """Check a commit out, and its submodules: as worktrees of what is here, where that has the commit."""
        if top not in self._repositories:
            self._repositories.append(top)
            _remove_listed(top)
        _add_worktree(top, sha, folder)
        paths = {module.name: module.path for module in submodules(top)}
        for module in submodules(folder):
            ours = top / paths.get(module.name, module.path)
            if has_commit(ours, module.commit):
                self._add(ours, module.commit, folder / module.path)
            else:
                clone_submodule(folder, module)

    def _remove(self, folder: Path) -> None:
        delete(folder)
        for top in self._repositories:
            _forget(top, folder)
        if not folder.exists():
            self._folders.remove(folder)


def _worktree(top: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `git worktree`, and again where another git, such as another session's, was in its way."""
    for attempt in range(_TRIES - 1):
        done = git(top, "worktree", *arguments, timeout_s=_CHECKOUT_TIMEOUT_S)
        if done.returncode == 0 or not _BUSY.search(done.stderr):
            return done
        RealClock.sleep(0.1 * 2**attempt)
    return git(top, "worktree", *arguments, timeout_s=_CHECKOUT_TIMEOUT_S)


def _add_worktree(top: Path, sha: str, folder: Path) -> None:
    done = _worktree(top, "add", "--detach", str(folder), sha)
    if done.returncode == 0:
        return
    said = "\n".join(done.stderr.strip().splitlines()[-5:]) or f"it ended with status {done.returncode}"
    remedy = _MAKE_ROOM if _NO_ROOM.search(done.stderr) else "mend what git says, and try again"
    raise EngineError(f"git could not check {sha[:12]} out to {folder.parent}: {said}", remedy)


def _build(command: str, tree: BaseTree, log: Path) -> None:
    """Run the user's command in the tree, with this interpreter's folder first on the PATH."""
    ours = environment()
    ours["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{ours.get('PATH', os.defpath)}"
    with log.open("wb") as output:
        done = run(["/bin/sh", "-c", command], environment=ours, folder=tree.root, output=output, is_long=True)
    if done.returncode != 0:
        end = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-30:])
        raise EngineError(
            f"the build command {command!r} ended with status {done.returncode} on the base {tree.sha[:12]}; "
            f"its output ends:\n{end}",
            "see that it builds a fresh checkout of that commit, in place and with what is installed here",
        )


def remove_abandoned() -> None:
    """Remove what owners that no longer run left in the temporary folder, whatever repositories it belongs to."""
    for folder in abandoned_folders():
        repositories = tuple(_repositories_of(folder)) if is_abandoned(folder, _KIND) else ()
        delete(folder)
        for hidden in repositories:
            with suppress(PerfsuiteError):  # whoever compares with a base there says it
                _forget(hidden, folder)


def _repositories_of(folder: Path) -> Iterator[Path]:
    """The .git folders of the repositories that list worktrees in this folder, as those say: gitdir: X/worktrees/N."""
    for place, folders, files in os.walk(folder):
        if ".git" in files:
            listed = Path(Path(place, ".git").read_text(encoding="utf-8", errors="replace").strip().partition(" ")[2])
            if listed.parent.name == "worktrees" and listed.is_dir():
                yield listed.parent.parent
        folders[:] = [name for name in folders if name != ".git"]


def _remove_listed(top: Path) -> None:
    """Remove what a repository lists of owners that no longer run: their temporary folder may have been another."""
    for folder in {parent for path in _linked(top) for parent in path.parents if is_abandoned(parent, _KIND)}:
        delete(folder)
        _forget(top, folder)


def _linked(top: Path) -> list[Path]:
    """The worktrees that git lists for a repository; none if that is gone."""
    lines = _worktree(top, "list", "--porcelain").stdout.splitlines()
    return [Path(line.removeprefix("worktree ")) for line in lines if line.startswith("worktree ")]


def _forget(top: Path, folder: Path) -> None:
    """Have git drop the worktrees that were in the folder."""
    for path in _linked(top):
        if folder in path.parents:
            _worktree(top, "remove", "--force", "--force", str(path))
