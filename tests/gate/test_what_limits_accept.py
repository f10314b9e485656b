"""Edges of what a limit may be, and the examples that a refusal gives."""

import pytest

from perfsuite.errors import LimitError, UsageError
from perfsuite.gate.limits import parse_limit, parse_limits
from perfsuite.metric import Direction, Metric, Relation
from perfsuite.registry import METRICS
from perfsuite.spec import Limit, LimitKind
from perfsuite.units import Unit


def refusal(name, text):
    with pytest.raises(LimitError) as error:
        parse_limit(METRICS.get(name), text)
    return error.value.what, error.value.remedy


def test_limits_of_a_gate_keep_their_order():
    assert parse_limits({"size": "0%", "latency": "<=2 ms"}) == (
        Limit(METRICS.get("size"), LimitKind.RELATIVE, 0.0, "0%"),
        Limit(METRICS.get("latency"), LimitKind.AT_MOST, 0.002, "<=2 ms"),
    )


@pytest.mark.parametrize("name", ["latency", "throughput"])
def test_a_sampled_metric_can_have_an_automatic_limit(name):
    assert parse_limit(METRICS.get(name), " auto ") == Limit(METRICS.get(name), LimitKind.AUTOMATIC, 0.0, "auto")


@pytest.mark.parametrize("name", ["size", "accuracy", "operators"])
def test_what_is_exact_has_none(name):
    with pytest.raises(LimitError, match="'auto' is not a quantity"):
        parse_limit(METRICS.get(name), "auto")


@pytest.mark.parametrize(
    ("name", "text", "what", "remedy"),
    [
        ("latency", "-5%", "latency='-5%' is negative", "a tolerance is how much worse it may get: 0 or more"),
        ("throughput", "100%", "throughput='100%' tolerates everything", "tolerate less than 100%"),
        ("latency", ">= 5 ms", "latency='>= 5 ms' bounds the good side: lower is better", "write '<=5 ms'"),
        ("speedup", "<=1.5", "speedup='<=1.5' bounds the good side: higher is better", "write '>=1.5'"),
        ("speedup", "1.5", "speedup='1.5' is no bound, and speedup is a relation to the original",
            "write it as '>=1.5'"),
        ("accuracy", ">=101%", "accuracy='>=101%' is out of range", "write it as '1pp' or '>=95%'"),
        ("latency", "<=0 s", "latency='<=0 s' is out of range", "write it as '5%', 'auto', '1 ms' or '<=20 ms'"),
        ("accuracy", ">=1pp", "accuracy='>=1pp' does not fit a metric in fraction", "write it as '1pp' or '>=95%'"),
        ("latency", 5, "latency=5 is not text",
            "write it with its unit, such as '5%', 'auto', '1 ms' or '<=20 ms'"),
    ],
)  # fmt: skip
def test_a_refusal_says_what_and_the_remedy(name, text, what, remedy):
    assert refusal(name, text) == (what, remedy)


@pytest.mark.parametrize(
    ("name", "example"),
    [
        ("size", "'1%', '64 MB' or '<=64 MB'"),
        ("latency", "'5%', 'auto', '1 ms' or '<=20 ms'"),
        ("throughput", "'5%', 'auto' or '>=100'"),
        ("sparsity", "'1pp' or '>=95%'"),
        ("flops", "'0%'"),
        ("compression", "'>=1.5'"),
        ("agreement", "'>=99%'"),
        ("sqnr", "'>=20 dB'"),
    ],
)
def test_a_misfit_gets_an_example_of_its_metric_that_parses(name, example):
    """Every metric refuses decibels as a tolerance, or seconds as a bound."""
    text = ">=3 s" if name in ("compression", "agreement", "sqnr") else "3 dB"
    assert refusal(name, text) == (
        f"{name}={text!r} does not fit a metric in {METRICS.get(name).unit.value}", f"write it as {example}",
    )  # fmt: skip
    for quoted in example.split("'")[1::2]:
        parse_limit(METRICS.get(name), quoted)


def test_a_relation_in_another_unit_gets_an_example_too():
    kept = Metric("calls_saved", Unit.COUNT, Direction.HIGHER, Relation(lambda candidate, original: 1.0))
    with pytest.raises(LimitError) as error:
        parse_limit(kept, "3")
    assert error.value.remedy == "write it as '>=1'"
    assert parse_limit(kept, ">=1").value == 1


def test_so_does_a_relation_of_which_less_is_better():
    error = Metric("error_kept", Unit.RATIO, Direction.LOWER, Relation(lambda candidate, original: 1.0))
    with pytest.raises(LimitError) as refused:
        parse_limit(error, "3%")
    assert refused.value.remedy == "write it as '<=1'"
    assert parse_limit(error, "<=1") == Limit(error, LimitKind.AT_MOST, 1.0, "<=1")


def test_the_edges_of_what_is_in_range():
    assert parse_limit(METRICS.get("accuracy"), ">=100%").value == 1.0
    assert parse_limit(METRICS.get("throughput"), "99.9%").value == pytest.approx(0.999)
    assert parse_limit(METRICS.get("latency"), "150%").value == 1.5
    assert parse_limit(METRICS.get("latency"), "0%").value == 0.0


def test_every_mistake_of_a_gate_is_on_lines_of_its_own():
    with pytest.raises(UsageError) as error:
        parse_limits({"size": "5 s", "throughput": "100%"})
    assert str(error.value) == (
        "size='5 s' does not fit a metric in bytes\n  remedy: write it as '1%', '64 MB' or '<=64 MB'\n"
        "throughput='100%' tolerates everything\n  remedy: tolerate less than 100%"
    )
    with pytest.raises(UsageError) as error:
        parse_limits({})
    assert str(error.value) == "a gate without limits judges nothing\n  remedy: give at least one, such as size='0%'"
