"""Temporary checkouts of other commits: made on demand, gone afterwards, whatever happens.

The folder of each carries its owner in its name (perfsuite.temporary). Where an owner is killed, that folder is all
that it leaves, and the next session removes it.
"""

from __future__ import annotations

import atexit
import os
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from perfsuite.errors import EngineError, PerfsuiteError, UsageError
from perfsuite.progress import tell
from perfsuite.revisions.clone import MAKE_ROOM, check_out
from perfsuite.revisions.git import environment, is_hash, repository, run
from perfsuite.revisions.ignored import add_ignored
from perfsuite.temporary import delete, new_folder


@dataclass(frozen=True)
class BaseTree:
    """A commit, checked out: ``root`` is there what the session's root is here, ``top`` the repository's top.

    ``ignored`` are the files that git ignores and that were added from the working tree; paths from the top.
    """

    root: Path
    top: Path
    sha: str
    ignored: tuple[str, ...] = ()


class Checkouts:
    """The temporary checkouts of one session, one for each commit. Close it when done, best by ``with``.

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

    def __enter__(self) -> Checkouts:
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
            raise EngineError(f"could not remove {', '.join(map(str, self._folders))}", "remove it by hand")
        atexit.unregister(self._close_at_exit)

    def _close_at_exit(self) -> None:
        """Nobody could handle an error any more; whoever comes next tries again."""
        with suppress(PerfsuiteError):
            self.close()

    def _try(self, sha: str) -> BaseTree | PerfsuiteError:
        folder = None
        try:
            atexit.register(self._close_at_exit)
            folder = new_folder("base")
            self._folders.append(folder)
            return self._make(sha, folder)
        except BaseException as error:
            if folder is not None:
                self._remove(folder)
            if isinstance(error, OSError):
                return EngineError(f"the base cannot be put into {tempfile.gettempdir()}: {error.strerror}", MAKE_ROOM)
            if isinstance(error, PerfsuiteError):
                return error
            raise

    def _make(self, sha: str, folder: Path) -> BaseTree:
        tell(f"checking out the base {sha[:12]}", 0, 2)
        top = folder / (self._here.top.name or "tree")  # a flat package may be called like its folder
        check_out(self._here.top, sha, top)
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

    def _remove(self, folder: Path) -> None:
        delete(folder)
        if not folder.exists():
            self._folders.remove(folder)


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
