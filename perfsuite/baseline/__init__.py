"""Stored evidence: what machine it is from, its schema, and the files it lives in. Never imports torch."""
