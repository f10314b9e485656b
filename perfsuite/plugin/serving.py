"""pytest inside a worker: items run when the session asks for them, up to their measurement.

A worker with two views runs two pytest sessions on one stack: the first collects and then, under the
second view, starts another pytest; when that has collected, too, the station answers the session.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import Any, cast

import msgspec
import pytest

from perfsuite._compat.pytest import tear_down
from perfsuite.engine.messages import NOT_COLLECTED, Boot
from perfsuite.engine.redirection import Redirection
from perfsuite.engine.remedies import ID_VARIABLE
from perfsuite.engine.station import open_station, station_of_process
from perfsuite.engine.views import Views
from perfsuite.engine.workers import BOOT_VARIABLE
from perfsuite.plugin.parameters import digests
from perfsuite.plugin.state import rename

_COLLECTED = pytest.StashKey[dict[str, pytest.Item]]()


def open_if_ordered() -> None:
    """If this process was started as a worker, enter its first view: before any conftest is imported."""
    text = os.environ.pop(BOOT_VARIABLE, None)  # what the tests start is no worker
    if text is not None:
        os.environ.pop("PYTEST_CURRENT_TEST", None)  # of the session: here none runs yet
        open_station(msgspec.json.decode(text, type=Boot)).redirection.enter(on=True)


def redirect_writes(pluginmanager: pytest.PytestPluginManager) -> None:
    """What plugins and conftest files write is the session's to write; what modules and tests write is left alone."""
    station = station_of_process()
    assert station is not None
    redirection = station.redirection
    pluginmanager.add_hookcall_monitoring(
        lambda name, implementations, arguments: redirection.enter(_IS_REDIRECTED.get(name)),
        lambda outcome, name, implementations, arguments: redirection.leave(),
    )


_IS_REDIRECTED = {
    "pytest_load_initial_conftests": False,  # imports them
    "pytest_make_collect_report": False,  # imports test modules
    "pytest_runtest_protocol": True,  # also of the second view's test, within a test of the first
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
    station = station_of_process()
    assert station is not None
    view = station.views.current
    station.runners[view] = ItemRunner(session, station.redirection)
    waiting = [name for name in station.views.names if name not in station.runners]
    if waiting:
        station.views.switch(waiting[0])
        os.environ[ID_VARIABLE] = f"{os.environ[ID_VARIABLE]}-{waiting[0]}"  # both set the same fixtures up
        arguments = map(str, session.config.invocation_params.args)
        pytest.main([*arguments, *_apart(session.config, waiting[0]), "-p", _asks_first(station.views)])
        station.views.switch(view)
    if not station.served:  # the last view's session; or this one, where the next could not even collect
        station.loop()
    with station.redirection.off():
        tear_down(session, None)  # the fixtures of the session are the tests'


def _apart(config: pytest.Config, view: str) -> list[str]:
    """A folder for temporary files that is not the other session's: pytest empties it."""
    return [f"--basetemp={config.option.basetemp}-{view}"] if config.option.basetemp else []


def _asks_first(views: Views) -> str:
    """A plugin that is there before any of the project: what pytest rewrites asserts of comes from the view, too."""
    plugin = cast(Any, ModuleType("_perfsuite_first", "PYTEST_DONT_REWRITE"))
    plugin.pytest_plugin_registered = lambda: views.ask_first()
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
        station = station_of_process()
        wanted = station.request.parameters if station and station.request else {}
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
        station = station_of_process()
        if station and station.request and hasattr(config.option, "randomly_seed"):
            config.option.randomly_seed = station.request.seed


def note(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Keep the text of a failure under the item's name or the file's."""
    if report.failed:
        name = report.nodeid if isinstance(report, pytest.TestReport) else report.nodeid.partition("::")[0]
        _failures()[name] = report.longreprtext
    elif report.skipped and isinstance(report.longrepr, tuple) and isinstance(report, pytest.TestReport):
        _failures()[report.nodeid] = f"it was skipped: {report.longrepr[2]}"


def _failures() -> dict[str, str]:
    """Of the view that is shown: its pytest is the one that reports."""
    station = station_of_process()
    assert station is not None
    return station.failures.setdefault(station.views.current, {})
