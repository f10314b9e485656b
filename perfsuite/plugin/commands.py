"""The commands that run one test again: as a worker, and to record its baseline."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from perfsuite.plugin.options import given_options


def update_command(item: pytest.Item) -> str:
    """What a person types to record this test's baseline: with the perf options of this run, without xdist."""
    words = [
        "pytest",
        "--perf-update",
        *given_options(item.config, but=("update", "strict", "report", "base", "base-build", "arms", "profile")),
    ]
    if item.config.pluginmanager.hasplugin("xdist") and "-n" in " ".join(item.config.getini("addopts")):
        words.append("-n0")  # times are not measured under xdist
    return shlex.join([*words, item.nodeid])


def worker_command(config: pytest.Config, files: Sequence[Path], folder: Path) -> Sequence[str]:
    """The running pytest again, with the same options, for the files of performance tests.

    What it leaves behind goes to the folder.
    """
    return [
        sys.executable, "-m", "pytest", *map(str, files), *_options(config), "-s", "--continue-on-collection-errors",
        f"--rootdir={config.rootpath}", f"--basetemp={folder / 'tmp'}", *_of_other_plugins(config, folder),
    ]  # fmt: skip


def _options(config: pytest.Config) -> list[str]:
    """The arguments of this run without its positional ones, which stand for tests, and what wants a person."""
    arguments = [str(argument) for argument in config.invocation_params.args if argument not in _FOR_A_PERSON]
    for positional in reversed(config.option.file_or_dir or []):
        if positional not in arguments:
            continue  # it stands in addopts
        last = len(arguments) - 1 - arguments[::-1].index(positional)
        del arguments[last]
    return arguments


_FOR_A_PERSON = ("--pdb", "--trace")  # a worker has no terminal


def _of_other_plugins(config: pytest.Config, folder: Path) -> Iterator[str]:
    """Keep a worker from overwriting what belongs to this run, and from being timed under coverage."""
    if config.inipath and not config.option.inifilename:
        yield from ("-c", str(config.inipath))
    if config.pluginmanager.hasplugin("cacheprovider"):
        yield from ("-o", f"cache_dir={folder / 'cache'}")
    if config.pluginmanager.hasplugin("_cov"):
        yield "--no-cov"
    if config.getoption("log_file", None):
        yield f"--log-file={folder / 'log.txt'}"
