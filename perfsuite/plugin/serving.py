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

from perfsuite.engine.messages import NOT_COLLECTED, Boot
from perfsuite.engine.station import open_station, station_of_process
from perfsuite.engine.views import Views
from perfsuite.engine.workers import BOOT_VARIABLE
from perfsuite.plugin.parameters import digests
from perfsuite.plugin.state import rename


def open_if_ordered() -> None:
    """If this process was started as a worker, enter its first view: before any conftest is imported."""
    text = os.environ.pop(BOOT_VARIABLE, None)  # what the tests start is no worker
    if text is not None:
        open_station(msgspec.json.decode(text, type=Boot))


def serve(session: pytest.Session) -> None:
    """The run loop of a worker's session: the innermost one answers, the others wait around it."""
    station = station_of_process()
    assert station is not None
    view = station.views.current
    station.runners[view] = ItemRunner(session)
    waiting = [name for name in station.views.names if name not in station.runners]
    if waiting:
        station.views.switch(waiting[0])
        arguments = map(str, session.config.invocation_params.args)
        pytest.main([*arguments, *_apart(session.config, waiting[0]), "-p", _asks_first(station.views)])
        station.views.switch(view)
    if not station.served:  # the last view's session; or this one, where the next could not even collect
        station.loop()


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

    def __init__(self, session: pytest.Session) -> None:
        self._session = session
        self._items = {item.nodeid: item for item in session.items}

    def __call__(self, name: str, following: str) -> str:
        """Run an item; returns why it did not reach its measurement, if it did not."""
        item = self._items.get(name) or self._of_same_parameters(name)
        failures = _failures()
        if item is None:
            return failures.get(name.partition("::")[0], f"{name} {NOT_COLLECTED}")
        failures.pop(item.nodeid, None)
        self._seed(item.config)
        # What an earlier item left because another than this one was expected next.
        cast(Any, self._session)._setupstate.teardown_exact(item)  # pytest has no public name for it
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
