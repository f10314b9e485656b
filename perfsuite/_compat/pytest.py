"""All that perfsuite uses of pytest, its plugins and argparse without their promising it.

All of it was seen on pytest 8.2 and 9.2, and on pytest-benchmark 5.3; where they differ, a function says how.
Importing this imports no pytest. tests/compat/test_pytest.py has a test for each.
"""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from perfsuite.errors import UsageError

if TYPE_CHECKING:
    import pytest


def ini_help(parser: pytest.Parser, key: str) -> str | None:
    """The help text that an ini key was declared with, which tells whose it is: in ``_inidict``. None: nobody has."""
    declared: Mapping[str, Sequence[Any]] = parser._inidict
    return declared[key][0] if key in declared else None


def parser_of(config: pytest.Config) -> pytest.Parser:
    """``_parser``: the one that ``pytest_addoption`` is given."""
    return config._parser


def option_names(parser: pytest.Parser) -> set[str]:
    """Of all options so far: those in ``_groups``, and those in ``_anonymous``, in no group."""
    groups: Sequence[Any] = (*parser._groups, parser._anonymous)
    return {name for group in groups for option in group.options for name in option.names()}


def withdraw_group(parser: pytest.Parser, name: str) -> list[str]:
    """Take a group's options back, so that others can have their names; returns what their values are called.

    pytest 9.2 tells argparse of an option when it is added (``_action``, ``_arggroup``), 8.2 when it parses.
    """
    group: Any = parser.getgroup(name)
    for option in group.options:
        action = getattr(option, "_action", None)
        if action is not None:
            group._arggroup._handle_conflict_resolve(None, [(flag, action) for flag in action.option_strings])
    values = [option.dest for option in group.options]
    group.options.clear()
    return values


def fixture_definitions(node: Any, name: str) -> list[Any]:
    """All fixtures of that name that a test can see, the nearest last: in ``_fixtureinfo``."""
    return list(node._fixtureinfo.name2fixturedefs.get(name, ()))


def tear_down(session: pytest.Session, following: pytest.Item | None) -> None:
    """Of what ran before, all that the following item does not need: ``_setupstate``."""
    cast(Any, session)._setupstate.teardown_exact(following)


def rewrites_asserts(finder: object) -> bool:
    """Whether a finder of modules is pytest's own: ``_pytest.assertion.rewrite.AssertionRewritingHook``."""
    rewriting = sys.modules.get("_pytest.assertion.rewrite")
    return rewriting is not None and isinstance(finder, rewriting.AssertionRewritingHook)


def run_to_the_end(config: pytest.Config) -> None:
    """By the names that pytest's own options have on ``config.option``: no failure ends the run, nobody is asked, and
    nothing is sent.
    """
    config.option.maxfail = 0
    config.option.usepdb = config.option.trace = False
    config.option.pastebin = None


def uncaptured(config: pytest.Config) -> AbstractContextManager[None]:
    """What is written in here is seen at once: by the plugin ``capturemanager``."""
    capture: Any = config.pluginmanager.get_plugin("capturemanager")
    disabled: AbstractContextManager[None] = capture.global_and_fixture_disabled()
    return disabled


def terminal_encoding(config: pytest.Config) -> str:
    """That of ``TerminalWriter._file``, which need not be a stream with one."""
    return getattr(cast(Any, config.get_terminal_writer())._file, "encoding", None) or "utf-8"


def find_ini(folder: Path) -> tuple[Path, dict[str, str]]:
    """The root and the ini file's keys that pytest, started in a folder, would find: ``determine_setup``.

    Its parameters and results differ between versions. Raises UsageError for a file that pytest refuses.
    """
    from _pytest.config.exceptions import UsageError as Refused
    from _pytest.config.findpaths import determine_setup

    nothing: dict[str, Any] = {
        "inifile": None, "override_ini": None, "args": [], "rootdir_cmd_arg": None, "invocation_dir": folder
    }  # fmt: skip
    parameters = inspect.signature(determine_setup).parameters
    try:
        root, _, found, *_ = determine_setup(**{name: nothing[name] for name in parameters})
    except Refused as error:
        raise UsageError(f"pytest cannot read its ini file: {error}", "mend the file") from error
    return root, {name: str(getattr(value, "value", value)) for name, value in found.items()}


def benchmarked_s(fixture: Any) -> Sequence[float]:
    """The rounds that pytest-benchmark's fixture has timed: ``stats.stats.data``; none with --benchmark-disable."""
    return fixture.stats.stats.data if fixture.stats else ()


def interpreter_flags() -> list[str]:
    """Those that this Python was started with, as multiprocessing passes them on: a private part of ``subprocess``."""
    flags: list[str] = cast(Any, subprocess)._args_from_interpreter_flags()
    return flags
