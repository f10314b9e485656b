"""Hypothesis without a deadline, on noisy cores, and the same examples on every run."""

from hypothesis import settings

settings.register_profile("perfsuite", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("perfsuite")
