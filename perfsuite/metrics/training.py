"""What a training step is judged by: its phases, its memory by kind, what it computes, and what comes of several.

All but the times need the workload ``train``. Distances are in units of the rounding of a parameter's numbers (eps):
0 is bit for bit, some hundreds are sums in another order, and a wrong factor is millions.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from perfsuite.metric import (
    DISPATCH,
    TARGET,
    TRAINING,
    Counted,
    Direction,
    Exact,
    Metric,
    PerExample,
    Relation,
    Sampled,
)
from perfsuite.phases import BACKWARD, FORWARD, OPTIMIZER, PhaseClock
from perfsuite.units import Unit

LOWER, SAME = Direction.LOWER, Direction.SAME
_TRACED = TRAINING | DISPATCH


def _time(phase: str) -> Metric:
    return Metric(f"{phase}_time", Unit.SECONDS, LOWER, Sampled(partial(PhaseClock, phase)))


def _memory(kind: str) -> Metric:
    probe = Exact(lambda subject: subject.steps.memory.at_peak[kind], _TRACED)
    return Metric(f"{kind}_memory", Unit.BYTES, LOWER, probe)


def _number(name: str, value: Any, unit: Unit = Unit.NUMBER, better: Direction = SAME, costly: bool = False) -> Metric:
    return Metric(name, unit, better, Exact(value, TRAINING, costly))


def _distance(name: str, kind: str) -> Metric:
    def measure(candidate: Any, original: Any) -> float:
        return float(candidate.steps.distance(original.steps, kind))

    def explain(candidate: Any, original: Any) -> str:
        return str(candidate.steps.first_difference(original.steps))

    return Metric(name, Unit.NUMBER, LOWER, Relation(measure, TRAINING, explain))


FORWARD_TIME, BACKWARD_TIME, OPTIMIZER_TIME = _time(FORWARD), _time(BACKWARD), _time(OPTIMIZER)

PARAMETER_MEMORY, GRADIENT_MEMORY, OPTIMIZER_MEMORY = _memory("parameter"), _memory("gradient"), _memory("optimizer")
ACTIVATION_MEMORY, TEMPORARY_MEMORY = _memory("activation"), _memory("temporary")
SAVED_FOR_BACKWARD = Metric(
    "saved_for_backward", Unit.BYTES, LOWER, Exact(lambda subject: subject.steps.memory.saved_bytes, _TRACED)
)
RECOMPUTE = Metric("recompute", Unit.RATIO, LOWER, Relation(lambda new, old: new.steps.recompute(old.steps), _TRACED))
COLLECTIVES = Metric("collectives", Unit.COUNT, LOWER, Counted(lambda subject: subject.steps.collectives, _TRACED))
COLLECTIVE_BYTES = Metric(
    "collective_bytes", Unit.BYTES, LOWER, Exact(lambda subject: subject.steps.memory.collective_bytes, _TRACED)
)

OPTIMIZER_STEPS = _number("optimizer_steps", lambda subject: subject.steps.taken, Unit.COUNT)
SKIPPED_STEPS = _number("skipped_steps", lambda subject: subject.steps.skipped, Unit.COUNT, LOWER)
LOSS = _number("loss", lambda subject: subject.steps.loss)
GRADIENT_NORM = _number("gradient_norm", lambda subject: subject.steps.norm("gradient"))
WEIGHT_NORM = _number("weight_norm", lambda subject: subject.steps.norm("weight"))
LOSS_DISTANCE = _distance("loss_distance", "loss")
GRADIENT_DISTANCE = _distance("gradient_distance", "gradient")
WEIGHT_DISTANCE = _distance("weight_distance", "weight")

FINAL_LOSS = _number("final_loss", lambda subject: subject.steps.trajectory[-1], costly=True)
TRAJECTORY_DISTANCE = Metric(
    "trajectory_distance", Unit.NUMBER, LOWER,
    Relation(
        lambda new, old: new.steps.trajectory_distance(old.steps), TRAINING,
        lambda new, old: new.steps.first_loss_that_differs(old.steps),
    ),
)  # fmt: skip
STEPS_TO_TARGET = Metric(
    "steps_to_target", Unit.NUMBER, LOWER, PerExample(lambda subject: subject.steps.to_target, TRAINING | TARGET)
)
RESUME_DISTANCE = _number("resume_distance", lambda subject: subject.steps.resume_distance, better=LOWER, costly=True)
CHECKPOINT_SIZE = _number("checkpoint_size", lambda subject: subject.steps.checkpoint_bytes, Unit.BYTES, LOWER, True)
