"""Our options on pytest's parser, beside those of a suite that had options of the same names before it knew of us."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from typing import Any

import pytest

from perfsuite.plugin.options import FORMER, OPTIONS, has_ini

_DECLARED = (*OPTIONS, *FORMER.values())


def add_ini_keys(parser: pytest.Parser) -> None:
    """A key that another plugin has declared already stays its own."""
    for option in _DECLARED:
        if option.ini not in parser._inidict:
            kind = "bool" if option.convert is None else "string"
            parser.addini(option.ini, option.help, type=kind, default=None)  # type: ignore[arg-type]


def add_options(parser: pytest.Parser, *, early: bool = False) -> None:
    """Each option, unless another has one of that name. Defaults are None, so that the ini file can be told apart.

    As long as it is ``early``, none must have a value: it may turn out to be a flag of the suite's own.
    """
    needed: dict[str, Any] = {"nargs": "?"} if early else {}
    group = parser.getgroup("perfsuite", "performance regressions of models (perfsuite)")
    groups = (*parser._groups, parser._anonymous)
    taken = {name for other in groups for option in other.options for name in option.names()}
    for option in _DECLARED:
        if option.flag in taken:
            continue
        if option.convert is None:
            group.addoption(option.flag, action="store_true", default=None, dest=option.dest, help=option.help)
        else:
            shown = {"metavar": option.metavar, "help": option.help}
            group.addoption(option.flag, default=None, dest=option.dest, **shown, **needed)


def withdraw_options(config: pytest.Config, parser: pytest.Parser) -> None:
    """Until conftest files have added theirs: a name that is taken is an error in whoever comes second."""
    group: Any = parser.getgroup("perfsuite")
    for argument in group.options:
        vars(config.option).pop(argument.dest, None)
        action = getattr(argument, "_action", None)  # an older pytest tells argparse only when it parses
        if action is not None:
            group._arggroup._handle_conflict_resolve(None, [(name, action) for name in action.option_strings])
    group.options.clear()


def taken_names(config: pytest.Config) -> Iterator[str]:
    """A line for the header where a suite has names of ours: who has them, and that they are left to it."""
    for option in OPTIONS:
        if option.dest not in config.option:
            yield f"perfsuite: {option.flag} is {_owner(config, option.flag)}'s; set ours as the ini key {option.ini}"
        if not has_ini(config, option):
            yield f"perfsuite: the ini key {option.ini} is {_owner(config, option.ini)}'s; set ours as {option.flag}"


def _owner(config: pytest.Config, option: str) -> str:
    """The plugin or conftest file in whose source the name stands."""
    for name, plugin in config.pluginmanager.list_name_plugin():
        adds = getattr(plugin, "pytest_addoption", None)
        if adds and getattr(adds, "__module__", "") != "perfsuite.plugin.hooks" and option in _source(adds):
            return name.removeprefix(f"{config.rootpath}{os.sep}")
    return "another plugin"


def _source(function: Any) -> str:
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        return ""
