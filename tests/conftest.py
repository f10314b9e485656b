"""Hypothesis without a deadline, on noisy cores, and the same examples on every run; runs in a run."""

import os

import pytest
from hypothesis import settings

settings.register_profile("perfsuite", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("perfsuite")


@pytest.fixture
def not_under_xdist(monkeypatch):
    """What a test starts is no worker of this run's pytest-xdist, though it inherits its environment."""
    for name in [name for name in os.environ if name.startswith("PYTEST_XDIST_")]:
        monkeypatch.delenv(name)
