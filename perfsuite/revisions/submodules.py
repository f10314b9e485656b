"""What submodules a tree has, and whether the working tree has them as HEAD records them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from perfsuite.errors import EngineError, UsageError
from perfsuite.revisions.git import commit_of, git, repository

_GITLINK = "160000"  # the mode of a tree entry that is a commit of another repository
_CLONE_TIMEOUT_S = 600


@dataclass(frozen=True)
class Submodule:
    """A repository within another: its name in .gitmodules, its path, and the commit that is recorded."""

    name: str
    path: str
    commit: str


def submodules(top: Path) -> tuple[Submodule, ...]:
    """Those of a working tree that .gitmodules knows and nobody has switched off; not those within them."""
    if not (top / ".gitmodules").is_file():
        return ()
    names = _names(top)
    staged = (entry.partition("\t") for entry in git(top, "ls-files", "--stage", "-z").stdout.split("\0"))
    links = {path: fields.split()[1] for fields, _, path in staged if fields.startswith(_GITLINK)}
    return tuple(
        Submodule(names[path], path, commit)
        for path, commit in links.items()
        if path in names and _is_wanted(top, names[path])
    )


def _names(top: Path) -> dict[str, str]:
    """Names of submodules by their paths."""
    listed = git(top, "config", "--file", ".gitmodules", "-z", "--get-regexp", r"^submodule\..*\.path$").stdout
    pairs = (line.partition("\n") for line in listed.split("\0") if line)
    return {path: key.removeprefix("submodule.").removesuffix(".path") for key, _, path in pairs}


def _is_wanted(top: Path, name: str) -> bool:
    def setting(key: str) -> str:
        return git(top, "config", "--get", f"submodule.{name}.{key}").stdout.strip()

    return setting("update") != "none" and setting("active") != "false"


def submodule_notes(root: Path) -> tuple[str, ...]:
    """One sentence for each submodule of the working tree that is not as HEAD records it.

    Raises UsageError for submodules that are not there at all.
    """
    top = repository(root).top
    missing = sorted(str(path.relative_to(top)) for path in _missing(top))
    if missing:
        raise UsageError(
            f"the working tree lacks its submodule{'s' * (len(missing) > 1)} {', '.join(missing)}",
            "run `git submodule update --init --recursive`",
        )
    paths = [module.path for module in submodules(top)]
    if not paths:
        return ()
    done = git(
        top, "--literal-pathspecs", "status", "--porcelain=v2", "-z", "--no-renames", "--ignore-submodules=none",
        "--", *paths,
    )  # fmt: skip
    return tuple(_note(entry) for entry in done.stdout.split("\0") if entry.startswith(("1 ", "u ")))


def _missing(top: Path) -> Iterator[Path]:
    for module in submodules(top):
        folder = top / module.path
        if (folder / ".git").exists():
            yield from _missing(folder)
        else:
            yield folder


def _note(entry: str) -> str:
    """From a line of `git status --porcelain=v2`; its third field is S, C(ommit), M(odified), U(ntracked)."""
    kind, states, flags = entry.split(" ", 3)[:3]
    path = entry.split(" ", 8 if kind == "1" else 10)[-1]
    reasons = {
        "another commit": states[0] != "." or flags[1] == "C",
        "modified files": flags[2] == "M",
        "new files": flags[3] == "U",
    }
    found = ", ".join(reason for reason, holds in reasons.items() if holds)
    return f"the submodule {path} is not as HEAD records it ({found}); its changes count as the candidate's"


def has_commit(folder: Path, commit: str) -> bool:
    """Whether the folder is the top of a working tree whose repository has the commit."""
    return (folder / ".git").exists() and commit_of(folder, commit) is not None


def clone_submodule(top: Path, module: Submodule) -> None:
    """Get a submodule, and those in it, from where .gitmodules says. Raises EngineError."""
    done = git(top, "submodule", "update", "--init", "--recursive", "--", module.path, timeout_s=_CLONE_TIMEOUT_S)
    if done.returncode != 0:
        raise EngineError(
            f"the base needs commit {module.commit[:12]} of the submodule {module.path}, which is not in this clone "
            f"and could not be fetched:\n{done.stderr.strip()}",
            f"run `git -C {module.path} fetch origin {module.commit}`, or check out with all submodules and their "
            "history",
        )
