"""Limits as users write them: ``latency="5%"``, ``accuracy="1pp"``, ``speedup=">=1.5"``.

A tolerance says how much worse than its reference a metric may get; a bound (">=", "<=") says what
it must reach whatever the reference is. Metrics that compare with the original take bounds only.
"""

from __future__ import annotations

from collections.abc import Mapping

from perfsuite.errors import LimitError, UsageError
from perfsuite.metric import Against, Direction, Metric, Sampled
from perfsuite.registry import METRICS, Registry
from perfsuite.spec import Limit, LimitKind
from perfsuite.units import Quantity, Unit, parse_quantity


def parse_limits(limits: Mapping[str, object], metrics: Registry[Metric] = METRICS) -> tuple[Limit, ...]:
    """All limits of one gate. Raises UsageError with every mistake at once."""
    parsed: list[Limit] = []
    mistakes: list[str] = []
    for name, text in limits.items():
        try:
            parsed.append(parse_limit(metrics.get(name), text))
        except UsageError as error:
            mistakes.append(str(error))
    if not limits:
        mistakes.append("a gate without limits judges nothing\n  remedy: give at least one, such as size='0%'")
    if mistakes:
        raise UsageError("\n".join(mistakes))
    return tuple(parsed)


def parse_limit(metric: Metric, text: object) -> Limit:
    """One limit. Raises LimitError if it does not parse or does not fit the metric."""
    if not isinstance(text, str):
        raise LimitError(f"{metric.name}={text!r} is not text", f"write it with its unit, such as {_example(metric)}")
    for kind in (LimitKind.AT_LEAST, LimitKind.AT_MOST):
        if text.strip().startswith(kind.value):
            return _bound(metric, kind, text)
    return _tolerance(metric, text)


def _bound(metric: Metric, kind: LimitKind, text: str) -> Limit:
    quantity = parse_quantity(text.strip()[2:])
    plain = metric.unit in (Unit.RATIO, Unit.COUNT, Unit.NUMBER, Unit.FRACTION, Unit.PER_SECOND)
    if quantity.points or not (quantity.unit is metric.unit or (quantity.unit is None and plain)):
        raise _misfit(metric, text)
    natural = LimitKind.AT_LEAST if metric.better is Direction.HIGHER else LimitKind.AT_MOST
    if kind is not natural and metric.better is not Direction.SAME:
        raise LimitError(
            f"{metric.name}={text!r} bounds the good side: {metric.better.value} is better",
            f"write '{natural.value}{text.strip()[2:].strip()}'",
        )
    is_nothing = quantity.value == 0 and (kind is LimitKind.AT_LEAST or metric.unit is not Unit.NUMBER)
    if quantity.value < 0 or is_nothing or (metric.unit is Unit.FRACTION and quantity.value > 1):
        raise LimitError(f"{metric.name}={text!r} is out of range", f"write it as {_example(metric)}")
    return Limit(metric, kind, quantity.value, text)


def _tolerance(metric: Metric, text: str) -> Limit:
    if metric.against is Against.ORIGINAL:
        raise LimitError(
            f"{metric.name}={text!r} is no bound, and {metric.name} is a relation to the original",
            f"write it as {_example(metric)}",
        )
    if text.strip() == LimitKind.AUTOMATIC.value and isinstance(metric.probe, Sampled):
        return Limit(metric, LimitKind.AUTOMATIC, 0.0, text.strip())
    quantity = parse_quantity(text)
    if quantity.value < 0:
        raise LimitError(f"{metric.name}={text!r} is negative", "a tolerance is how much worse it may get: 0 or more")
    if quantity.percent and metric.unit is not Unit.FRACTION:
        if metric.better is Direction.HIGHER and quantity.value >= 1:
            raise LimitError(f"{metric.name}={text!r} tolerates everything", "tolerate less than 100%")
        return Limit(metric, LimitKind.RELATIVE, quantity.value, text)
    if not _is_amount(metric, quantity):
        raise _misfit(metric, text)
    return Limit(metric, LimitKind.ABSOLUTE, quantity.value, text)


def _is_amount(metric: Metric, quantity: Quantity) -> bool:
    if metric.unit is Unit.FRACTION:
        return quantity.points  # "1%" of an accuracy would be read in two ways
    if isinstance(metric.probe, Sampled) and metric.probe.rate:
        return False  # a rate is judged as what a call takes, of which only a fraction makes sense
    return quantity.unit is metric.unit or (quantity.unit is None and metric.unit in (Unit.COUNT, Unit.NUMBER))


def _misfit(metric: Metric, text: str) -> LimitError:
    return LimitError(
        f"{metric.name}={text!r} does not fit a metric in {metric.unit.value}", f"write it as {_example(metric)}"
    )


def _example(metric: Metric) -> str:
    if metric.against is Against.ORIGINAL and metric.better is Direction.LOWER:
        return "'<=1'"
    if metric.against is Against.ORIGINAL:
        return {Unit.RATIO: "'>=1.5'", Unit.FRACTION: "'>=99%'", Unit.DECIBEL: "'>=20 dB'"}.get(metric.unit, "'>=1'")
    return {
        Unit.BYTES: "'1%', '64 MB' or '<=64 MB'",
        Unit.SECONDS: "'5%', 'auto', '1 ms' or '<=20 ms'",
        Unit.PER_SECOND: "'5%', 'auto' or '>=100'",
        Unit.FRACTION: "'1pp' or '>=95%'",
    }.get(metric.unit, "'0%'")
