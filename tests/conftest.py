"""Hypothesis without a deadline, on noisy cores, and the same examples on every run; runs in a run."""

import gc
import os

import pytest
from hypothesis import settings

settings.register_profile("perfsuite", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("perfsuite")


@pytest.fixture(autouse=True, scope="module")
def little_garbage_of_imports():
    """Blocks, traces and ends of inner runs collect garbage: half a second each, beside all that a run has imported."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def not_under_xdist(monkeypatch):
    """What a test starts is no worker of this run's pytest-xdist, though it inherits its environment."""
    for name in [name for name in os.environ if name.startswith("PYTEST_XDIST_")]:
        monkeypatch.delenv(name)
