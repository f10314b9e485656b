"""Quantization-aware training: a step that computes on the numbers that integers will stand for."""

from __future__ import annotations

from dataclasses import dataclass, replace

from perfsuite.errors import UsageError
from perfsuite.techniques.quantization.qat.training import prepare_qat
from perfsuite.techniques.values import parse_technique
from perfsuite.training.plan import StepPlan

_SHORT = {"int8": "int8-dynamic"}


@dataclass(frozen=True)
class Qat:
    """``qat-int8``, ``qat-int8-static``, ``qat-weight-only-4``: for a technique; ``int8`` is ``int8-dynamic``.

    The model that is trained is a prepared copy (``perfsuite.prepare_qat``); ranges are those of the first batch.
    """

    technique: str = "int8-dynamic"
    replaces_model = True

    @property
    def name(self) -> str:
        short = {full: word for word, full in _SHORT.items()}
        return f"qat-{short.get(self.technique, self.technique)}"

    @staticmethod
    def from_argument(argument: str | None) -> Qat:
        if argument is None:
            raise UsageError("recipe 'qat' needs a technique", "write qat-int8, qat-int8-static or qat-weight-only-4")
        return Qat(parse_technique(_SHORT.get(argument, argument)).name)

    def apply(self, plan: StepPlan) -> StepPlan:
        """Raises TechniqueError for what there is no such training for."""
        return replace(plan, model=prepare_qat(plan.model, self.technique, [plan.example]))
