"""The commands that run one test again: as a worker, and to record its baseline."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from perfsuite.plugin.options import added_words, given_options, words_of_flag
from perfsuite.plugin.state import SEARCHES_FOLDER, node_id


def update_command(item: pytest.Item) -> str:
    """What a person types to record this test's baseline."""
    return _command(item.config, "update", _JUDGING, [_named(item)])


def update_all_command(config: pytest.Config) -> str:
    """What a person types to record the baselines of all tests in the files of this run."""
    return _command(config, "update", _JUDGING, config.option.file_or_dir or ())


def alone_command(config: pytest.Config) -> str:
    """What a person types to run the performance tests of this run by themselves."""
    return _command(config, "only", ("only",), config.option.file_or_dir or ())


_JUDGING = ("update", "strict", "report", "base", "base-build", "isolation", "profile")


def _command(config: pytest.Config, first: str, but: tuple[str, ...], tests: Iterable[str]) -> str:
    """With the options of this run, but some; without xdist, under which nothing is timed."""
    return shlex.join(
        ["pytest", *words_of_flag(config, first), *given_options(config, but), *_where(config), *_alone(config), *tests]
    )


def _named(item: pytest.Item) -> str:
    """The item as pytest finds it from the folder that it was started in."""
    _, colons, name = node_id(item).partition("::")
    return os.path.relpath(item.path, item.config.invocation_params.dir) + colons + name


def _where(config: pytest.Config) -> Iterator[str]:
    """What was typed of pytest's own options that say where tests are, and with which plugins and settings they run.

    What selects tests is repeated only to replace what else is added to the command line.
    """
    parser = ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for flags in (*_WHERE, *_WHICH):
        parser.add_argument(*flags, action="append", default=[], dest=flags[0])
    typed, _ = parser.parse_known_args([str(argument) for argument in config.invocation_params.args])
    replacing = [flags for flags in _WHICH if any(word.startswith(flags[0]) for word in _added(config))]
    for flag, *_ in (*_WHERE, *replacing):
        for value in getattr(typed, flag):
            yield from (f"{flag}={value}",) if flag.startswith("--") else (flag, value)
    yield from ("--pyargs",) if config.option.pyargs else ()


_WHERE = (
    ("-c", "--config-file"), ("--rootdir",), ("--confcutdir",), ("--import-mode",), ("-p",), ("-o", "--override-ini"),
)  # fmt: skip
_WHICH = (("-m",), ("-k",))


def _alone(config: pytest.Config) -> Iterator[str]:
    """Times are not measured under xdist: turned off where it is added to each command line."""
    if config.pluginmanager.hasplugin("xdist") and any(map(_starts_xdist, _added(config))):
        yield from ("-n", "0")


def _added(config: pytest.Config) -> list[str]:
    return [word for words in added_words(config) for word in words]


def _starts_xdist(word: str) -> bool:
    return re.fullmatch("-n[^-]*|-d|--(numprocesses|dist|tx)(=.*)?", word) is not None


def worker_command(config: pytest.Config, files: Sequence[Path], folder: str) -> tuple[str, ...]:
    """The running pytest again, with the same options, for the files of performance tests.

    What it leaves behind goes to the folder.
    """
    return (
        sys.executable, *_interpreter_flags(), "-m", "pytest", *map(str, files), *_options(config), "-s",
        "--continue-on-collection-errors",
        f"--rootdir={config.rootpath}", f"--basetemp={folder}/tmp", *_of_other_plugins(config, folder),
    )  # fmt: skip


def _interpreter_flags() -> list[str]:
    """Those that this Python was started with. ``pytest`` by itself does not look for modules in the folder that it
    is called in, and ``python -m pytest`` does: what lies there must shadow as little for a worker as it does here.
    """
    flags: list[str] = cast(Any, subprocess)._args_from_interpreter_flags()  # as multiprocessing starts its own
    return flags if SEARCHES_FOLDER or "-P" in flags else [*flags, "-P"]


def _options(config: pytest.Config) -> list[str]:
    """The arguments of this run without its positional ones, which stand for tests."""
    arguments = list(map(str, config.invocation_params.args))
    for positional in reversed(config.option.file_or_dir or []):
        if positional not in arguments:
            continue  # it stands in addopts
        last = len(arguments) - 1 - arguments[::-1].index(positional)
        del arguments[last]
    return arguments


def _of_other_plugins(config: pytest.Config, folder: str) -> Iterator[str]:
    """Keep a worker from what this run's cache selects, and from being timed under coverage."""
    if config.inipath and not config.option.inifilename:
        yield from ("-c", str(config.inipath))
    if config.pluginmanager.hasplugin("cacheprovider"):
        yield from ("-o", f"cache_dir={folder}/cache")
    if config.pluginmanager.hasplugin("_cov"):
        yield "--no-cov"
