"""How often a model is right on its task's examples, and how much of the original's accuracy it keeps."""

from __future__ import annotations

from perfsuite.metric import TASK, Against, Direction, Metric, PerExample
from perfsuite.units import Unit

_CORRECT = PerExample(lambda subject: subject.task.score(subject.model), TASK)

ACCURACY = Metric("accuracy", Unit.FRACTION, Direction.HIGHER, _CORRECT)
ACCURACY_KEPT = Metric("accuracy_kept", Unit.FRACTION, Direction.HIGHER, _CORRECT, Against.ORIGINAL)
