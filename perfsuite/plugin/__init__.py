"""The pytest plugin: it translates options and markers into values, and verdicts into outcomes.

Starting pytest imports ``hooks`` and ``options`` only; everything else waits for a performance test.
"""
