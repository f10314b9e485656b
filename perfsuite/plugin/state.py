"""What is kept on pytest's config, under one typed key each."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from perfsuite.plugin.options import DEFAULT_EXECUTOR, Options, is_given, resolve

if TYPE_CHECKING:
    from perfsuite.executors.jobs import Executor
    from perfsuite.executors.workers import Launch
    from perfsuite.registry import Registries
    from perfsuite.session.session import Session
    from perfsuite.session.settings import Settings

_OPTIONS = pytest.StashKey[Options]()
_REGISTRIES = pytest.StashKey["Registries"]()
_SESSION = pytest.StashKey["Session"]()
_NARROWED = pytest.StashKey[bool]()
_COLLECTED = pytest.StashKey[int]()
_FOLLOWING = pytest.StashKey[str]()
_NAME = pytest.StashKey[str]()
_FILES = pytest.StashKey[Sequence[Path]]()
SEARCHES_FOLDER = sys.path[0] in ("", os.getcwd())  # noqa: PTH109  # as Python writes it; before tests' folders are added
WORKER_VARIABLE = "PERFSUITE_WORKER"  # see perfsuite.executors.workers, which is not imported here
_SERVER = "_perfsuite_server"  # see perfsuite.executors.server, likewise

_XDIST = "under pytest-xdist other tests run at the same time"


def start(config: pytest.Config) -> None:
    """Resolve the options; a mistake in them is a usage error, before anything runs."""
    from perfsuite.errors import UsageError

    try:
        config.stash[_OPTIONS] = resolve(config)
    except UsageError as error:
        raise pytest.UsageError(str(error)) from None
    if is_worker():
        config.option.maxfail = 0  # what the base cannot collect must not end the rest
        config.option.usepdb = config.option.trace = False  # a worker has no terminal
        config.option.pastebin = None  # the session sends its own


def is_worker() -> bool:
    """Whether this pytest is a fresh process that samples blocks for another."""
    return _SERVER in sys.modules


def open_if_worker(pluginmanager: pytest.PytestPluginManager) -> None:
    """Enter the first revision of a worker: before any conftest is imported."""
    if WORKER_VARIABLE in os.environ:
        from perfsuite.plugin.serving import open_if_ordered

        open_if_ordered()
    if is_worker():
        from perfsuite.plugin.serving import redirect_writes

        redirect_writes(pluginmanager)


def is_xdist(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def options_of(config: pytest.Config) -> Options:
    return config.stash[_OPTIONS]


def registries_of(config: pytest.Config) -> Registries:
    """The session's registries; conftest files and plugins add to them once, when first asked for."""
    if _REGISTRIES not in config.stash:
        from perfsuite.registry import Registries

        registries = Registries()
        config.stash[_REGISTRIES] = registries
        config.hook.pytest_perfsuite_register(registries=registries)
    return config.stash[_REGISTRIES]


def session_of(config: pytest.Config) -> Session:
    """The one session, made when the first performance test runs."""
    if _SESSION not in config.stash:
        from perfsuite.executors.server import server_of_process
        from perfsuite.session.session import Session
        from perfsuite.temporary import remove_abandoned

        if not is_worker():
            remove_abandoned()
        executor = partial(_executor, config)
        config.stash[_SESSION] = Session(settings_of(config), registries_of(config), server_of_process(), executor)
    return config.stash[_SESSION]


def close(config: pytest.Config) -> None:
    """End what the session started."""
    if _SESSION in config.stash:
        config.stash[_SESSION].close()


def notes_of(config: pytest.Config) -> tuple[str, ...]:
    """What the session has to say about the run as a whole."""
    return config.stash[_SESSION].notes() if _SESSION in config.stash else ()


def has_failed(config: pytest.Config) -> bool:
    """Whether the session as a whole has failed, whatever its verdicts are."""
    return _SESSION in config.stash and bool(config.stash[_SESSION].failure)


def settings_of(config: pytest.Config) -> Settings:
    from perfsuite.baseline.machine import usable_cores
    from perfsuite.session.settings import Settings

    options = options_of(config)
    return Settings(
        root=config.rootpath,
        storage=options.storage,
        threads=options.threads or usable_cores(),
        update=options.update and not is_worker(),
        seed=options.seed,
        budget_s=options.budget,
        block_s=options.block_time,
        record_blocks=options.blocks,
        no_timing=_no_timing(config),
        base="" if is_worker() else options.base,
        base_build=options.base_build,
        isolation=options.isolation,
        profile=options.profile,
        alpha=options.alpha,
        tests=max(1, config.stash.get(_COLLECTED, 1)),
    )


def _executor(config: pytest.Config) -> Executor:
    options = options_of(config)
    return registries_of(config).executors.get(options.executor)(_launch(config, options))


def _no_timing(config: pytest.Config) -> tuple[str, str]:
    """Why times cannot be measured at all, and the remedy; nothing where they can."""
    if not is_xdist(config):
        return "", ""
    from perfsuite.plugin.commands import alone_command

    return _XDIST, f"run the performance tests by themselves, without -n: {alone_command(config)}"


def _cores_for(threads: int) -> tuple[int, ...]:
    """Fewer threads than cores are pinned, so that they do not wander; as many as there are need no pinning."""
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return tuple(usable[:threads]) if 0 < threads < len(usable) else ()


def _launch(config: pytest.Config, options: Options) -> Launch:
    from perfsuite.executors.messages import Boot
    from perfsuite.executors.workers import FOLDER, Launch
    from perfsuite.plugin.commands import worker_command
    from perfsuite.revisions.git import repository

    boot = Boot(
        pipes=(-1, -1),
        revisions={},
        top=str(repository(config.rootpath).top if options.base else config.rootpath),
        test_folders=tuple(_test_folders(config)),
        test_files=tuple(config.getini("python_files")),
        only=options.base_modules,
        preload=("torch",) if "torch" in sys.modules else (),
        cores=_cores_for(options.threads),
    )
    return Launch(
        worker_command(config, config.stash.get(_FILES, ()), FOLDER),
        boot,
        config.invocation_params.dir,
        options.timeout,
    )


def _test_folders(config: pytest.Config) -> Iterator[str]:
    """Those of ``testpaths``, which may hold globs. The root itself holds more than tests."""
    for pattern in config.getini("testpaths"):
        found = glob(str(config.rootpath / pattern), recursive=True)  # noqa: PTH207  # Path.glob refuses "."
        yield from (folder for folder in found if not config.rootpath.samefile(folder))


def is_whole_run(config: pytest.Config, judged_items: int) -> bool:
    """Whether every test of the project ran and was judged: only then an unused baseline proves something."""
    options = options_of(config)
    overridden = (
        options.models
        or options.techniques
        or options.runtimes
        or options.devices
        or options.batch_sizes
        or options.skip
    )
    chosen = config.args_source is pytest.Config.ArgsSource.ARGS or config.getoption("ignore", None)
    narrowed = config.stash.get(_NARROWED, False) or overridden or chosen or config.getoption("lf", False)
    under_xdist = config.pluginmanager.hasplugin("dsession")
    return not narrowed and not under_xdist and config.stash.get(_COLLECTED, -1) == judged_items


def note_collected(config: pytest.Config, tests: Sequence[pytest.Item]) -> None:
    """Keep how many performance tests there are, where they are, and which follows which."""
    config.stash[_COLLECTED] = len(tests)
    config.stash[_FILES] = tuple(dict.fromkeys(item.path for item in tests))
    for item, following in zip(tests, [*tests[1:], None], strict=False):  # of no tests, none follows
        item.stash[_FOLLOWING] = node_id(following) if following else ""


def check_executor(config: pytest.Config) -> None:
    """A name that is none is a usage error, before anything runs."""
    from perfsuite.errors import UsageError

    name = options_of(config).executor
    if name != DEFAULT_EXECUTOR and config.stash.get(_COLLECTED, 0):
        try:
            registries_of(config).executors.get(name)
        except UsageError as error:
            raise pytest.UsageError(str(error)) from None


def watch_leaks(config: pytest.Config) -> None:
    """Only where there are performance tests: the others pay nothing."""
    if config.stash.get(_COLLECTED, 0):
        from perfsuite.plugin import leaks

        leaks.watch(config, worker=is_worker())


def check_reports(config: pytest.Config) -> None:
    """An ending that nobody renders is a usage error, before anything is measured."""
    paths = options_of(config).report
    if not paths or is_worker():
        return
    from perfsuite.errors import UsageError
    from perfsuite.report.endings import reporter_of

    try:
        for path in paths:
            reporter_of(path.name, registries_of(config).reporters)
    except UsageError as error:
        raise pytest.UsageError(f"--perf-report={path}: {error}") from None


def said_of_reports(config: pytest.Config) -> Iterator[str]:
    """Where no performance test ran, reports stay as they are; whoever asked for them in this run is told."""
    if is_given(config, "report"):
        names = ", ".join(str(path) for path in options_of(config).report)
        yield f"perfsuite: no performance test ran, so {names} was not written"


def check_base(config: pytest.Config) -> None:
    """A base revision that does not exist is a usage error, before anything is measured."""
    base = options_of(config).base
    if not base or is_worker() or not config.stash.get(_COLLECTED, 0):
        return
    from perfsuite.errors import PerfsuiteError
    from perfsuite.revisions.commits import resolve_base
    from perfsuite.revisions.git import repository
    from perfsuite.session.settings import ACCEPTED

    try:
        if base == ACCEPTED:
            repository(config.rootpath)
        else:
            resolve_base(config.rootpath, base)
    except PerfsuiteError as error:
        raise pytest.UsageError(str(error)) from None


def node_id(item: pytest.Item) -> str:
    """The name that cases of an item go by: its own, or in a worker the one that the session knows.

    With --dist=loadgroup xdist appends the group to it, by which nobody else finds the test.
    """
    plain = f"{item.parent.nodeid}::{item.name}" if item.parent else item.nodeid
    return item.stash.get(_NAME, plain if item.nodeid.startswith(f"{plain}@") else item.nodeid)


def rename(item: pytest.Item, name: str) -> None:
    """From now on the item's cases go by that name."""
    item.stash[_NAME] = name


def following_of(item: pytest.Item) -> str:
    """The performance test that comes after this one, or nothing."""
    return item.stash.get(_FOLLOWING, "")


def note_deselected(config: pytest.Config) -> None:
    config.stash[_NARROWED] = True
