"""Plugins that run a test more than once: docs/suites.md says what becomes of a performance test under them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from perfsuite.patterns import first_of

_REPEATED = pytest.StashKey[bool]()
_SHOWN = 5


def run_once(metafunc: pytest.Metafunc) -> None:
    """pytest-repeat leaves a performance test alone: each of its repeats would be a case with a baseline of its own."""
    if not hasattr(metafunc.config.option, "repeat_scope"):
        return
    marker = metafunc.definition.get_closest_marker("repeat")
    count = marker.args[0] if marker and marker.args else metafunc.config.option.count
    if count > 1:
        metafunc.config.stash[_REPEATED] = True
        metafunc.definition.add_marker(pytest.mark.repeat(1), append=False)


def notes_on_plugins(again: Sequence[str], config: pytest.Config) -> Iterator[str]:
    """What a reader has to know of tests that another plugin runs more than once; ``again`` are those that it did."""
    by_option = hasattr(config.option, "repeat_scope") and config.option.count > 1  # under xdist others have collected
    if by_option or config.stash.get(_REPEATED, False):
        yield "pytest-repeat: performance tests run once, since a verdict takes as many measurements as it needs"
    if again:
        names = first_of(again, _SHOWN)
        yield f"{names} ran again: a case is judged once in a session, so its verdict is that of the first run"


def register(config: pytest.Config) -> None:
    """Take part in what pytest-rerunfailures reports, if it is there."""
    if hasattr(config.option, "reruns"):
        config.pluginmanager.register(SupersededRuns(), "perfsuite-superseded-runs")


class SupersededRuns:
    """Each run that pytest-rerunfailures repeats is a test case in JUnit's XML: only the last one has the verdicts."""

    def __init__(self) -> None:
        self._repeated: set[str] = set()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.outcome == "rerun":  # type: ignore[comparison-overlap]  # that plugin's own outcome
            self._repeated.add(report.nodeid)
        if report.when == "teardown" and report.nodeid in self._repeated:
            self._repeated.remove(report.nodeid)
            kept = [(name, value) for name, value in report.user_properties if not name.startswith("perfsuite.")]
            report.user_properties = kept
