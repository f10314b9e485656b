"""pytest inside a worker: items run when the session asks for them, up to their measurement.

A worker with two module_sets runs two pytest sessions on one stack: the first collects and then, under the
second revision, starts another pytest; when that has collected, too, the server answers the session.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest

from perfsuite._compat.pytest import tear_down
from perfsuite.executors.messages import NOT_COLLECTED, Boot
from perfsuite.executors.redirection import Redirection
from perfsuite.executors.remedies import ID_VARIABLE
from perfsuite.executors.server import Revisions, WorkingTree, open_server, server_of_process
from perfsuite.executors.workers import BOOT_VARIABLE
from perfsuite.plugin.parameters import digests
from perfsuite.plugin.proving import watch_as_planned
from perfsuite.plugin.state import rename

if TYPE_CHECKING:
    from perfsuite.executors.in_process_ab.module_sets import ModuleSets
    from perfsuite.executors.in_process_ab.project import Project

_COLLECTED = pytest.StashKey[dict[str, pytest.Item]]()


def open_if_ordered() -> None:
    """If this process was started as a worker, enter its first revision: before any conftest is imported."""
    text = os.environ.pop(BOOT_VARIABLE, None)  # what the tests start is no worker
    if text is not None:
        os.environ.pop("PYTEST_CURRENT_TEST", None)  # of the session: here none runs yet
        boot = msgspec.json.decode(text, type=Boot)
        server = open_server(boot, partial(_revisions, boot))
        if boot.plan is not None:
            watch_as_planned(_project(boot), boot.plan, boot.base_is_built)
        server.redirection.enter(on=True)


def _revisions(boot: Boot) -> Revisions:
    """Python's imports are exchanged only where a base revision takes part."""
    if not any(boot.revisions.values()):
        return WorkingTree(next(iter(boot.revisions)))
    from perfsuite.executors.in_process_ab.module_sets import ModuleSets

    return ModuleSets(_project(boot), {name: Path(tree) if tree else None for name, tree in boot.revisions.items()})


def _project(boot: Boot) -> Project:
    from perfsuite.executors.in_process_ab.project import Project

    return Project(Path(boot.top), tuple(map(Path, boot.test_folders)), boot.test_files, boot.only)


def redirect_writes(pluginmanager: pytest.PytestPluginManager) -> None:
    """What plugins and conftest files write is the session's to write; what modules and tests write is left alone."""
    server = server_of_process()
    assert server is not None
    redirection = server.redirection
    pluginmanager.add_hookcall_monitoring(
        lambda name, implementations, arguments: redirection.enter(_IS_REDIRECTED.get(name)),
        lambda outcome, name, implementations, arguments: redirection.leave(),
    )


_IS_REDIRECTED = {
    "pytest_load_initial_conftests": False,  # imports them
    "pytest_make_collect_report": False,  # imports test modules
    "pytest_runtest_protocol": True,  # also of the second revision's test, within a test of the first
    "pytest_runtest_setup": False,
    "pytest_runtest_call": False,
    "pytest_runtest_teardown": False,
}
"""By hook; the others are as they find it."""


def keep_collected(item: pytest.Item) -> None:
    """Whatever deselects or removes items later: the session has chosen already."""
    item.config.stash.setdefault(_COLLECTED, {})[item.nodeid] = item


def serve(session: pytest.Session) -> None:
    """The run loop of a worker's session: the innermost one answers, the others wait around it."""
    server = server_of_process()
    assert server is not None
    revision = server.revisions.current
    server.runners[revision] = ItemRunner(session, server.redirection)
    waiting = [name for name in server.revisions.names if name not in server.runners]
    if waiting:
        server.revisions.switch(waiting[0])
        os.environ[ID_VARIABLE] = f"{os.environ[ID_VARIABLE]}-{waiting[0]}"  # both set the same fixtures up
        arguments = map(str, session.config.invocation_params.args)
        first = _asks_first(cast("ModuleSets", server.revisions))
        pytest.main([*arguments, *_apart(session.config, waiting[0]), "-p", first])
        server.revisions.switch(revision)
    if not server.served:  # the last revision's session; or this one, where the next could not even collect
        server.loop()
    with server.redirection.off():
        tear_down(session, None)  # the fixtures of the session are the tests'


def _apart(config: pytest.Config, revision: str) -> list[str]:
    """A folder for temporary files that is not the other session's: pytest empties it."""
    return [f"--basetemp={config.option.basetemp}-{revision}"] if config.option.basetemp else []


def _asks_first(revisions: ModuleSets) -> str:
    """A plugin that is there before any of the project: asserts are rewritten in the revision's own files."""
    plugin = cast(Any, ModuleType("_perfsuite_first", "PYTEST_DONT_REWRITE"))
    plugin.pytest_plugin_registered = lambda: revisions.ask_first()
    sys.modules[plugin.__name__] = plugin
    return str(plugin.__name__)


class ItemRunner:
    """Runs the items of one session by their names, and knows why one did not reach its measurement."""

    def __init__(self, session: pytest.Session, redirection: Redirection) -> None:
        self._session = session
        self._redirection = redirection
        self._items = session.config.stash.setdefault(_COLLECTED, {})
        self._items.update({item.nodeid: item for item in session.items})

    def __call__(self, name: str, following: str) -> str:
        """Run an item; returns why it did not reach its measurement, if it did not."""
        item = self._items.get(name) or self._of_same_parameters(name)
        failures = _failures()
        if item is None:
            return failures.get(name.partition("::")[0], f"{name} {NOT_COLLECTED}")
        failures.pop(item.nodeid, None)
        self._seed(item.config)
        with self._redirection.off():
            tear_down(self._session, item)  # what an earlier item left because another was expected next
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=self._items.get(following))
        return failures.get(item.nodeid, "it ended without measuring")

    def _of_same_parameters(self, name: str) -> pytest.Item | None:
        """The item of the same function and parameters, whose name holds what differs from process to process."""
        server = server_of_process()
        wanted = server.job.parameters if server and server.job else {}
        function = name.partition("[")[0]
        mine = [item for item in self._items.values() if item.nodeid.partition("[")[0] == function]
        found = [item for item in mine if wanted and digests(item) == wanted]
        if len(found) != 1:
            return None
        rename(found[0], name)
        return self._items.setdefault(name, found[0])

    @staticmethod
    def _seed(config: pytest.Config) -> None:
        """pytest-randomly draws a seed for each process; both revisions need the same one."""
        server = server_of_process()
        if server and server.job and hasattr(config.option, "randomly_seed"):
            config.option.randomly_seed = server.job.seed


def note(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Keep the text of a failure under the item's name or the file's."""
    if report.failed:
        name = report.nodeid if isinstance(report, pytest.TestReport) else report.nodeid.partition("::")[0]
        _failures()[name] = report.longreprtext
    elif report.skipped and isinstance(report.longrepr, tuple) and isinstance(report, pytest.TestReport):
        _failures()[report.nodeid] = f"it was skipped: {report.longrepr[2]}"


def _failures() -> dict[str, str]:
    """Of the revision that is shown: its pytest is the one that reports."""
    server = server_of_process()
    assert server is not None
    return server.failures.setdefault(server.revisions.current, {})
