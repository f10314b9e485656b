"""Commands on baselines: show, diff, accept, prune, resolve."""

from __future__ import annotations

import difflib
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perfsuite.cli.ini import storage_of
from perfsuite.cli.output import Storage, say
from perfsuite.cli.resolving import resolve
from perfsuite.errors import UsageError
from perfsuite.patterns import matching

if TYPE_CHECKING:
    from perfsuite.baseline.schema import BaselineFile, Entry
    from perfsuite.baseline.store import Store

app = typer.Typer(help="Look at the stored baselines, accept new ones, and drop old ones.", no_args_is_help=True)
Pattern = Annotated[str, typer.Argument(help="Cases, such as 'encoder-*/int8-dynamic/*'.")]


@app.command()
def show(pattern: Pattern = "*", storage: Storage = None) -> None:
    """What is stored of each case, at which commit, and how far times spread between processes."""
    for key, entry in _matching(_store(storage), pattern):
        say(key)
        for line in _described(entry):
            say(f"  {line}")


@app.command()
def diff(
    revision: Annotated[str, typer.Argument(help="A git revision.")] = "HEAD",
    storage: Storage = None,
) -> None:
    """What differs between the baselines in the working tree and those of a revision."""
    from perfsuite.revisions.git import commit_of, repository

    store = _store(storage)
    if not isinstance(store.folder, Path):
        raise UsageError(f"{store.folder} is no folder of a repository", "diff baselines that git keeps")
    folder = store.folder.resolve()
    top = repository(next(path for path in (folder, *folder.parents) if path.is_dir())).top
    commit = commit_of(top, revision)
    if commit is None:
        raise UsageError(f"unknown revision {revision!r}", "name a commit, branch or tag")
    before, after = _entries_at(top, commit, store), dict(store.entries())
    lines = list(_differences(before, after))
    for line in lines or [f"no baseline differs from {revision}"]:
        say(line)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def accept(context: typer.Context) -> None:
    """Measure and accept: runs 'pytest --perf-only --perf-update' with the arguments that follow."""
    done = subprocess.run([sys.executable, "-m", "pytest", "--perf-only", "--perf-update", *context.args], check=False)
    raise typer.Exit(done.returncode)


@app.command()
def prune(
    pattern: Pattern,
    storage: Storage = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do it; else only say what would be dropped.")] = False,
) -> None:
    """Drop the baselines of cases whose tests are gone."""
    store = _store(storage)
    keys = [key for key, _ in _matching(store, pattern)]
    for key in keys:
        say(f"{'dropped' if yes else 'would drop'}: {key}")
    if yes:
        store.drop(set(keys))
    else:
        say("nothing was changed; --yes does it")


app.command()(resolve)


def _store(storage: str | None) -> Store:
    from perfsuite.baseline.store import Store

    return Store(storage_of(storage))


def _matching(store: Store, pattern: str) -> Iterator[tuple[str, Entry]]:
    entries = dict(store.entries())
    found = matching(pattern, entries)
    if not entries:
        raise UsageError(
            f"there is no baseline in {store.folder}", "record some: pytest --perf-update; or give --storage"
        )
    if not found:
        raise UsageError(f"no baseline in {store.folder} is {pattern!r}, or matches it", _near(pattern, entries))
    yield from ((key, entries[key]) for key in found)


def _near(pattern: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(pattern, known, n=3)
    hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    return f"{hint}'perfsuite baseline show' lists all, and '*' stands for any text"


def _described(entry: Entry) -> Iterator[str]:
    if entry.exact:
        numbers = ", ".join(f"{name} {_exactly(value)}" for name, value in sorted(entry.exact.metrics.items()))
        yield f"exact at {entry.exact.commit} (torch {entry.exact.torch}): {numbers}"
    for name, flags in sorted(entry.all_flags().items()):
        yield f"{name} at {flags.commit}: {sum(flags.bits())} of {flags.count} on {flags.task}"
    for name, stored in sorted(entry.numbers.items()):
        scores = stored.scores
        yield f"{name} at {stored.commit}: {scores.mean:.4g} in the mean of {len(scores.values)} on {scores.task}"
    for machine, time in sorted(entry.time.items()):
        yield f"time at {time.commit} on {machine}: p50 {time.p50_ms:.4g} ms, spread {_spread(time.log_ratios)}"
    for machine, found in sorted(entry.sampled.items()):
        for name, samples in sorted(found.items()):
            typical = f"{samples.typical:.4g}, spread {_spread(samples.log_ratios)}"
            yield f"{name} at {samples.commit} on {machine}: {typical}"


def _spread(log_ratios: Sequence[float]) -> str:
    from perfsuite.stats.decision import spread_of

    return f"{spread_of(log_ratios).sd:.1%} over {len(log_ratios)} processes"


def _exactly(value: float) -> str:
    """A count in full: of two that differ in the last digit, both are shown in a diff."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def _entries_at(top: Path, commit: str, store: Store) -> dict[str, Entry]:
    """What the baselines were at a commit."""
    from perfsuite.revisions.git import git, git_bytes

    assert isinstance(store.folder, Path)
    folder = store.folder.resolve().relative_to(top.resolve()).as_posix()
    names = git(top, "ls-tree", "-z", "--name-only", commit, f"./{folder}/").stdout.split("\0")
    files: list[BaselineFile] = [
        store.decode(top / name, git_bytes(top, "show", f"{commit}:{name}")) for name in names if name.endswith(".json")
    ]
    return {key: entry for file in files for key, entry in file.cases.items()}


def _differences(before: dict[str, Entry], after: dict[str, Entry]) -> Iterator[str]:
    for key in sorted({*before, *after}):
        old, new = before.get(key), after.get(key)
        if old is None or new is None:
            yield f"{key}: {'new' if old is None else 'gone'}"
        elif old != new:
            yield f"{key}:"
            was, now = set(_described(old)), set(_described(new))
            yield from (f"  - {line}" for line in _described(old) if line not in now)
            yield from (f"  + {line}" for line in _described(new) if line not in was)
