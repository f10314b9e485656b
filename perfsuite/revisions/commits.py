"""Which commits are compared: what the working tree is at, and the base that was asked for."""

from __future__ import annotations

import difflib
import os
import re
import shlex
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from perfsuite.errors import EngineError, PerfsuiteError, UsageError
from perfsuite.revisions.git import Repository, commit_of, git, repository

UNKNOWN = "unknown"
_CHANGES = "+changes"
_SHORT = 12  # hexadecimal digits of a commit in messages and baselines
_WHOLE_HISTORY = (
    "this clone is shallow: check it out with its history (fetch-depth: 0 in GitHub Actions, GIT_DEPTH: 0 in GitLab CI)"
)
_REMOTE_TIMEOUT_S = 10


@dataclass(frozen=True)
class BaseCommit:
    """The commit to compare with: its full hash, what was asked for, and how messages call it."""

    sha: str
    asked: str
    description: str


@dataclass(frozen=True)
class NoCommit:
    """Why the commit that a baseline was accepted at cannot be checked out, and the remedy."""

    why: str
    remedy: str


@cache
def revision(root: Path) -> str:
    """The short commit of the tree, with "+changes" if tracked files differ from it; "unknown" without git."""
    commit = _read(root, "rev-parse", f"--short={_SHORT}", "HEAD")
    if commit is None:
        return UNKNOWN
    return commit + _CHANGES if _read(root, "status", "--porcelain", "--untracked-files=no") else commit


def branch(root: Path) -> str:
    """The branch that the tree is at, also where a CI system has checked out its commit alone; empty if unknown."""
    named = ("GITHUB_HEAD_REF", "GITHUB_REF_NAME", "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", "CI_COMMIT_REF_NAME")
    found = _read(root, "symbolic-ref", "--short", "--quiet", "HEAD")
    return found or next((os.environ[name] for name in named if os.environ.get(name)), "")


def _read(root: Path, *arguments: str) -> str | None:
    try:
        done = git(root, *arguments, timeout_s=20)
    except PerfsuiteError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def resolve_base(root: Path, ref: str) -> BaseCommit:
    """The merge-base of HEAD and REF, in the repository that ``root`` is in.

    Raises UsageError, with the remedy, for everything that stands between REF and a commit.
    """
    _check(ref)
    here = repository(root)
    head = commit_of(here.top, "HEAD")
    if head is None:
        raise UsageError(
            f"the repository {here.top} has no commit yet, so there is no base to compare with",
            "commit first, or compare with a stored baseline: leave --perf-base away",
        )
    asked = commit_of(here.top, ref)
    if asked is None:
        raise _unknown(here, ref)
    done = git(here.top, "merge-base", head, asked)
    if done.returncode != 0:
        raise _unrelated(here, ref)
    base = done.stdout.strip()
    itself = ", which is HEAD" if base == head else ""
    return BaseCommit(base, ref, f"merge-base {base[:_SHORT]} of {ref}{itself}")


def resolve_commit(root: Path, recorded: str) -> BaseCommit | NoCommit:
    """The commit that a baseline entry was accepted at, such as "dc07fce12345"; why not, if there is none.

    Raises UsageError without git or outside of a repository.
    """
    record_again = "accept this baseline again with --perf-update, from a committed tree"
    if recorded == UNKNOWN:
        return NoCommit("the baseline was accepted where no commit could be told", record_again)
    if recorded.endswith(_CHANGES):
        return NoCommit(
            f"the baseline was accepted at {recorded}: with uncommitted changes, which cannot be checked out again",
            record_again,
        )
    if not re.fullmatch("[0-9a-f]{7,64}", recorded):
        return NoCommit(f"the baseline names {recorded!r} as its commit, which is none", record_again)
    here = repository(root)
    sha = commit_of(here.top, recorded)
    if sha is None or not sha.startswith(recorded):  # a branch may be called like a commit
        history = f"{_WHOLE_HISTORY}, or run `git fetch --unshallow`" if here.shallow else "run `git fetch --all`"
        return NoCommit(
            f"the commit {recorded}, which the baseline was accepted at, is not in this clone",
            f"{history}; if it is gone for good (squashed, rebased), {record_again}",
        )
    return BaseCommit(sha, recorded, f"{sha[:_SHORT]}, which the baseline was accepted at")


def _check(ref: str) -> None:
    """What can be no revision is refused before git sees it."""
    remedy = "give a branch, a tag or a commit, such as --perf-base=main"
    if not ref.strip():
        raise UsageError("--perf-base is empty", remedy)
    if ref.startswith("-") or not ref.isprintable():
        raise UsageError(f"--perf-base={ref!r} is no revision", remedy)
    if ":" in re.sub(r"\{[^}]*\}", "", ref):  # a time of the reflog may have one: main@{10:30}
        raise UsageError(f"--perf-base={ref!r} names a file or a search, not a commit", remedy)


def _unknown(here: Repository, ref: str) -> UsageError:
    listed = git(here.top, "for-each-ref", "--format=%(refname:short)", "refs/heads", "refs/remotes", "refs/tags")
    names = listed.stdout.split()
    near = [name for name in names if name.endswith(f"/{ref}")] or difflib.get_close_matches(ref, names, n=3)
    steps = [f"did you mean {' or '.join(map(repr, near))}?"] if near else []
    fetch = "git fetch --unshallow" if here.shallow else "git fetch"
    source = _on_a_remote(here.top, ref)
    if source:
        steps.append(f"run `{fetch} {source}`, then it is known")
    elif here.shallow:
        steps.append(f"or run `{fetch}`")
    elif not near:
        steps.append("give a branch, a tag or a commit of this clone; `git branch --all` lists the branches")
    if here.shallow:
        steps.insert(0, f"{_WHOLE_HISTORY};")
    return UsageError(f"--perf-base={ref}: this clone has no such revision", " ".join(steps))


def _on_a_remote(top: Path, ref: str) -> str | None:
    """What to fetch from where, for the first remote that answers and has a branch or tag of this name."""
    for remote in git(top, "remote").stdout.split()[:3]:
        try:
            listed = git(top, "ls-remote", "--heads", "--tags", "--", remote, timeout_s=_REMOTE_TIMEOUT_S).stdout
        except EngineError:
            continue
        names = {line.partition("\t")[2] for line in listed.splitlines()}
        if f"refs/heads/{ref}" in names:
            return f"{remote} {shlex.quote(f'{ref}:{ref}')}"
        if f"refs/tags/{ref}" in names:
            return f"{remote} tag {shlex.quote(ref)}"
    return None


def _unrelated(here: Repository, ref: str) -> UsageError:
    what = f"--perf-base={ref}: HEAD and {ref} have no common commit"
    if here.shallow:
        return UsageError(f"{what} in this clone", f"{_WHOLE_HISTORY}, or run `git fetch --unshallow`")
    return UsageError(f"{what}: their histories are unrelated", "name a branch that this one was made from")
