"""Measuring: time with an injectable clock, exact metrics from dispatch and from saved files."""
