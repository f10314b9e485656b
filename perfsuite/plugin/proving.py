"""Starting to watch, with --perf-base, before anything of the project is imported: what is not seen is not proven."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from perfsuite.plugin.options import ALL, early_value

if TYPE_CHECKING:
    from perfsuite.executors.in_process_ab.project import Project
    from perfsuite.proof.plan import Plan
    from perfsuite.session.proving import Files, Prover

_PROVER = pytest.StashKey["Prover"]()


def watch(config: pytest.Config) -> None:
    """Start, if a base is asked for. What is wrong with it is told later, where everything else is checked."""
    base = early_value(config, "base")
    time, covered = early_value(config, "time"), early_value(config, "require-covered")
    if not base or base == _ACCEPTED or (time == ALL and not covered):
        return
    from perfsuite.errors import PerfsuiteError
    from perfsuite.revisions.commits import resolve_base
    from perfsuite.session.proving import Prover

    with suppress(PerfsuiteError):
        commit, files = resolve_base(config.rootpath, base), _files(config)
        config.stash[_PROVER] = Prover.start(files, commit, proves=time != ALL)


_ACCEPTED = "accepted"  # see perfsuite.session.settings, which is not imported here


def watch_as_planned(project: Project, plan: Plan, base_is_built: bool) -> None:
    """In a fresh process, which proves a case where the session's has run too much already."""
    from perfsuite.session.proving import Files, Prover

    files = Files(project.top, project.owns, project.is_test, base_is_built=base_is_built)
    _OF_PROCESS.append(Prover.of(files, plan))


_OF_PROCESS: list[Prover] = []  # of a fresh process, before there is any configuration


def prover_of(config: pytest.Config) -> Prover | None:
    return config.stash.get(_PROVER, None) or next(iter(_OF_PROCESS), None)


def close(config: pytest.Config) -> None:
    """Watch no longer, also where no session was made."""
    prover = prover_of(config)
    if prover is not None:
        prover.close()


def begin(item: pytest.Item) -> None:
    """A performance test begins."""
    prover = prover_of(item.config)
    if prover is not None:
        prover.begin()


def test_of(item: pytest.Item) -> tuple[Path, str]:
    """The file of a test, and the name of its function."""
    return item.path, getattr(item, "originalname", None) or item.name


def test_folders(config: pytest.Config) -> Iterator[str]:
    """Those of ``testpaths``, which may hold globs. The root itself holds more than tests."""
    for pattern in config.getini("testpaths"):
        found = glob(str(config.rootpath / pattern), recursive=True)  # noqa: PTH207  # Path.glob refuses "."
        yield from (folder for folder in found if not config.rootpath.samefile(folder))


def _files(config: pytest.Config) -> Files:
    from perfsuite.executors.in_process_ab.project import Project
    from perfsuite.revisions.git import repository
    from perfsuite.session.proving import Files

    top = repository(config.rootpath).top.resolve()
    folders = tuple(map(Path, test_folders(config)))
    project = Project(top, folders, tuple(config.getini("python_files")))
    storage = (config.rootpath / str(early_value(config, "storage"))).resolve()
    built = bool(early_value(config, "base-build"))
    return Files(top, project.owns, project.is_test, lambda path: path.is_relative_to(storage), base_is_built=built)
