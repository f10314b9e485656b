"""A small suite beside other people's plugins, which `make compatibility` installs where nothing else loads them."""

import json
import os
import sys
from pathlib import Path

import pytest

PLUGINS = Path(sys.prefix) / "compatibility"

SUITE = """
def work():
    return sum(range(1000))

def test_plain():
    pass

def test_recorded(perf):
    perf(work, latency="300%")

def test_bounded(perf):
    perf(work, latency="<=1 s")

def test_second(perf):
    perf(work, latency="300%")
"""
NAMES = [f"test_suite.py::test_{name}" for name in ("plain", "recorded", "bounded", "second")]


class Suite:
    """Runs a project's tests beside the plugins that are named, as their entry points are called."""

    def __init__(self, pytester):
        self.write, self.path, self._pytester = pytester.makepyfile, pytester.path, pytester

    def run(self, *arguments, plugins):
        chosen = [word for name in ("perfsuite", *plugins) for word in ("-p", name)]
        return self._pytester.runpytest_subprocess(*chosen, *arguments)

    def recorded(self):
        """The cases whose time has a baseline: they were measured in fresh processes."""
        files = sorted((self.path / "baselines").glob("*.json"))
        cases = [case for file in files for case in json.loads(file.read_text())["cases"].items()]
        return [key for key, entry in cases if entry.get("time")]


@pytest.fixture
def suite(pytester, monkeypatch, not_under_xdist):
    if not PLUGINS.exists():
        pytest.skip("the other plugins are not installed: make compatibility")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(PLUGINS), os.environ.get("PYTHONPATH")])))
    pytester.makeini(
        "[pytest]\naddopts = --strict-markers -p no:cacheprovider\nperf_blocks = 2\nperf_block_time = 0.2\n"
        "perf_threads = 1\n"
    )
    pytester.makepyfile(test_suite=SUITE)
    return Suite(pytester)
