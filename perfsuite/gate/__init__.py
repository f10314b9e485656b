"""Limits, evidence and baselines in, verdicts out. Pure: no I/O, no torch, no pytest."""
