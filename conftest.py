"""For every test and gate of this repository: no network, and hypothesis without a deadline on noisy cores."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing here may depend on what a hub serves today

pytest_plugins = ["pytester"]


def pytest_configure():
    from hypothesis import settings

    settings.register_profile("perfsuite", deadline=None, derandomize=True, print_blob=True)
    settings.load_profile("perfsuite")
