"""What is kept on pytest's config, under one typed key each, and which items are performance tests."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

from perfsuite.plugin.options import Options, resolve

if TYPE_CHECKING:
    from perfsuite.registry import Registries
    from perfsuite.session.session import Session, Settings

_OPTIONS = pytest.StashKey[Options]()
_REGISTRIES = pytest.StashKey["Registries"]()
_SESSION = pytest.StashKey["Session"]()
_NARROWED = pytest.StashKey[bool]()
_COLLECTED = pytest.StashKey[int]()
WORKER_VARIABLE = "PERFSUITE_WORKER"  # its value is the order; see perfsuite.session.blocks, which is not imported here

XDIST = (
    "under pytest-xdist other tests run at the same time",
    "run the performance tests by themselves, without -n: pytest --perf-only",
)


def start(config: pytest.Config) -> None:
    """Resolve the options; a mistake in them is a usage error, before anything runs."""
    from perfsuite.errors import UsageError

    try:
        config.stash[_OPTIONS] = resolve(config)
    except UsageError as error:
        raise pytest.UsageError(str(error)) from None
    if is_worker():
        config.option.xmlpath = None  # the report belongs to the session that started this worker


def is_worker() -> bool:
    """Whether this pytest is a fresh process that samples one block for another."""
    return WORKER_VARIABLE in os.environ


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
        from perfsuite.session.blocks import WorkerOrder
        from perfsuite.session.session import Session

        config.stash[_SESSION] = Session(settings_of(config), registries_of(config), WorkerOrder.from_environment())
    return config.stash[_SESSION]


def settings_of(config: pytest.Config) -> Settings:
    from perfsuite.baseline.machine import usable_cores
    from perfsuite.session.session import Settings

    options = options_of(config)
    return Settings(
        root=config.rootpath,
        storage=options.storage,
        invoked_from=config.invocation_params.dir,
        threads=options.threads or usable_cores(),
        update=options.update and not is_worker(),
        seed=options.seed,
        budget_s=options.budget,
        record_blocks=options.blocks,
        no_timing=XDIST if is_xdist(config) else ("", ""),
    )


def is_whole_run(config: pytest.Config, judged_items: int) -> bool:
    """Whether every test of the project ran and was judged: only then an unused baseline proves something."""
    options = options_of(config)
    overridden = options.models or options.techniques or options.devices or options.batch_sizes or options.skip
    chosen = config.args_source is pytest.Config.ArgsSource.ARGS or config.getoption("ignore", None)
    narrowed = config.stash.get(_NARROWED, False) or overridden or chosen or config.getoption("lf", False)
    under_xdist = config.pluginmanager.hasplugin("dsession")
    return not narrowed and not under_xdist and config.stash.get(_COLLECTED, -1) == judged_items


def note_collected(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    config.stash[_COLLECTED] = sum(PerfTests.is_one(item) for item in items)


class PerfTests:
    """Which items are performance tests: those with the marker or one of the fixtures."""

    FIXTURES = frozenset({"perf_case", "perf"})

    @classmethod
    def is_one(cls, item: pytest.Item) -> bool:
        used = getattr(item, "fixturenames", ())
        return item.get_closest_marker("perf") is not None or not cls.FIXTURES.isdisjoint(used)

    @classmethod
    def select(cls, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Keep what --perf-only and --perf-skip leave; the rest is reported as deselected."""
        options = options_of(config)
        if options.only or options.skip:
            config.hook.pytest_deselected(items=[item for item in items if cls.is_one(item) != options.only])
            items[:] = [item for item in items if cls.is_one(item) == options.only]


def note_deselected(config: pytest.Config) -> None:
    config.stash[_NARROWED] = True
