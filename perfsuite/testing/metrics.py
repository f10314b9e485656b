"""The laws of a metric: it can be judged, it has a number, and what is said to have no noise has none."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy

from perfsuite.measure.facts import facts_of, relations_of
from perfsuite.measure.subject import Subject
from perfsuite.metric import Metric, Relation, Sampled
from perfsuite.protocols import Task
from perfsuite.registry import METRICS
from perfsuite.testing.contract import each
from perfsuite.testing.strategies import Sample, models

MetricLaw = Callable[[Metric, Subject], None]
_CALLS = 20
_MOST_CALLS = 100_000  # of which a coarse counter must have seen some


def can_be_registered(metric: Metric, subject: Subject) -> None:
    """It has a probe of a known shape, needs what can be observed, and is known by its own name."""
    if metric.name not in METRICS or METRICS.get(metric.name) is not metric:
        METRICS.copy().register(metric.name, metric)


def has_a_finite_number(metric: Metric, subject: Subject) -> None:
    """Or says why this subject has none."""
    for value in _values(metric, subject):
        assert math.isfinite(value), f"it gave {value}"


def is_the_same_each_time(metric: Metric, subject: Subject) -> None:
    """What is not sampled has no noise: equal subjects have equal values, in an equal order."""
    one, other = (_values(metric, subject) for _ in range(2))
    assert one == other, f"measured twice, it gave {one} and {other}"


def counts_what_calls_use(metric: Metric, subject: Subject) -> None:
    """A counter never falls, and grows with the calls."""
    if not isinstance(metric.probe, Sampled):
        return
    reader = metric.probe.counter()
    start = last = reader.read()
    for number in range(_MOST_CALLS):
        subject.call()
        now = reader.read()
        assert math.isfinite(now), f"its counter gave {now}"
        assert now >= last, f"its counter fell from {last} to {now}"
        last = now
        if number >= _CALLS and last > start:
            return
    raise AssertionError(f"its counter did not grow in {_MOST_CALLS:,} calls")


METRIC_LAWS: tuple[MetricLaw, ...] = (
    can_be_registered,
    has_a_finite_number,
    is_the_same_each_time,
    counts_what_calls_use,
)


class MetricContract:
    """The laws of every metric. Subclass it and set ``metric``; ``samples`` draws models that it can measure.

    ``make_task`` gives what scores them, for a metric that needs a task.
    """

    metric: ClassVar[Metric]
    samples: ClassVar[SearchStrategy[Sample]] = models()
    make_task: ClassVar[Callable[[], Task] | None] = None

    @each(METRIC_LAWS)
    def test_law(self, law: MetricLaw) -> None:
        make_task = type(self).make_task

        @settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(self.samples)
        def holds(sample: Sample) -> None:
            law(self.metric, Subject.of_model(sample.model, sample.inputs, "a sample", make_task))

        holds()


def _values(metric: Metric, subject: Subject) -> list[float]:
    """A relation is that of the subject to itself. A sampled metric has its values from blocks."""
    if isinstance(metric.probe, Sampled):
        return []
    if isinstance(metric.probe, Relation):
        found, missing = relations_of(subject, subject, [metric])
        assert metric.name in {**found, **missing}, "it gave nothing, and no reason"
        return list(found.values())
    facts = facts_of(subject, [metric])
    assert facts.exact or facts.per_example or facts.missing, "it gave nothing, and no reason"
    assert "gave" not in facts.missing.get(metric.name, ""), facts.missing[metric.name]
    return [*facts.exact.values(), *(float(v) for scores in facts.per_example.values() for v in scores.values)]
