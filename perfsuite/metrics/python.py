"""What Python itself does in one call: overhead that no operator shows."""

from __future__ import annotations

from perfsuite.metric import PYTHON, Counted, Direction, Metric
from perfsuite.units import Unit

PYTHON_CALLS = Metric(
    "python_calls", Unit.COUNT, Direction.LOWER, Counted(lambda subject: subject.python_calls, PYTHON)
)
