"""Hypothesis without a deadline, and the same examples on every run; a core for each process; runs in a run."""

import gc
import os
import sys

import pytest
from hypothesis import settings

settings.register_profile("perfsuite", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("perfsuite")


if "PYTEST_XDIST_WORKER" in os.environ and hasattr(os, "sched_setaffinity"):
    # Cores of its own for each process, with all that its tests start: else one would time what others are doing.
    _number, _count = int(os.environ["PYTEST_XDIST_WORKER"][2:]), int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    _cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, _cores[_number::_count] or [_cores[_number % len(_cores)]])


@pytest.fixture(autouse=True, scope="module")
def little_garbage_of_imports():
    """Blocks, traces and ends of inner runs collect garbage: half a second each, beside all that a run has imported."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_bytecode_of_edited_files(monkeypatch):
    """Else an inner run takes what the last one compiled for a file edited within the second, at equal size."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)


@pytest.fixture
def not_under_xdist(monkeypatch):
    """What a test starts is no worker of this run's pytest-xdist, though it inherits its environment."""
    for name in [name for name in os.environ if name.startswith("PYTEST_XDIST_")]:
        monkeypatch.delenv(name)
