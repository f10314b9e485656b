"""What every run found, kept for looking back: a store, what changed in it and when, and a drawing of it.

    Run -> RunRecord -> append -> [one SQLite file] -> read -> Row -> Series -> Change -> lines

Never imports torch.
"""

from perfsuite.errors import HistoryError
from perfsuite.history.audits import audit_lines
from perfsuite.history.changes import Change, Series, changes_of, series_of, usual_spread
from perfsuite.history.draw import lines, matching, render
from perfsuite.history.record import Audited, Measurement, Row, RunRecord, record_of
from perfsuite.history.store import append, audits, cases, read

__all__ = [
    "Audited", "Measurement", "Row", "RunRecord", "record_of",
    "append", "audits", "cases", "read", "HistoryError",
    "Series", "Change", "series_of", "changes_of", "usual_spread",
    "audit_lines", "lines", "matching", "render",
]  # fmt: skip
