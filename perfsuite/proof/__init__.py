"""Proof instead of time: whether a change can have reached what a case runs, found without timing anything."""
