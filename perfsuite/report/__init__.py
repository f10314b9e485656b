"""Verdicts in, lines of text out. Pure, and without torch."""
