"""What is kept on pytest's config, under one typed key each."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from perfsuite._compat.pytest import run_to_the_end
from perfsuite.plugin.options import Options, resolve

if TYPE_CHECKING:
    from perfsuite.registry import Registries

_OPTIONS = pytest.StashKey[Options]()
_REGISTRIES = pytest.StashKey["Registries"]()
_NARROWED = pytest.StashKey[bool]()
_COLLECTED = pytest.StashKey[int]()
_FOLLOWING = pytest.StashKey[str]()
_NAME = pytest.StashKey[str]()
_FILES = pytest.StashKey[Sequence[Path]]()
SEARCHES_FOLDER = sys.path[0] in ("", os.getcwd())  # noqa: PTH109  # as Python writes it; before tests' folders are added
_SERVER = "_perfsuite_server"  # see perfsuite.executors.server, likewise


def start(config: pytest.Config) -> None:
    """Resolve the options; a mistake in them is a usage error, before anything runs."""
    from perfsuite.errors import UsageError

    try:
        config.stash[_OPTIONS] = resolve(config)
    except UsageError as error:
        raise pytest.UsageError(str(error)) from None
    if is_worker():
        run_to_the_end(config)  # what the base cannot collect must not end the rest, and a worker has no terminal


def is_worker() -> bool:
    """Whether this pytest is a fresh process that samples blocks for another."""
    return _SERVER in sys.modules


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


def architectures_known(config: pytest.Config) -> AbstractContextManager[None]:
    """While open, techniques know the architectures of this session; where nobody registers, nothing is looked up."""
    if _REGISTRIES in config.stash or config.hook.pytest_perfsuite_register.get_hookimpls():
        return registries_of(config).active()
    return nullcontext()


def is_whole_run(config: pytest.Config, judged_items: int) -> bool:
    """Whether every test of the project ran and was judged: only then an unused baseline proves something."""
    options = options_of(config)
    overridden = (
        options.models
        or options.techniques
        or options.runtimes
        or options.recipes
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


def collected(config: pytest.Config) -> int:
    """How many performance tests there are; 0 until they are collected."""
    return config.stash.get(_COLLECTED, 0)


def files_of(config: pytest.Config) -> Sequence[Path]:
    """Where they are."""
    return config.stash.get(_FILES, ())


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
