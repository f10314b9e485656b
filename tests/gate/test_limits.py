import pytest

from perfsuite.errors import LimitError, UnknownNameError, UsageError
from perfsuite.gate.limits import parse_limit, parse_limits
from perfsuite.registry import METRICS
from perfsuite.spec import LimitKind


@pytest.mark.parametrize(
    ("name", "text", "kind", "value"),
    [
        ("latency", "5%", LimitKind.RELATIVE, 0.05),
        ("latency", "1 ms", LimitKind.ABSOLUTE, 0.001),
        ("latency", "<=20 ms", LimitKind.AT_MOST, 0.02),
        ("throughput", ">=100", LimitKind.AT_LEAST, 100),
        ("peak_memory", "64 MB", LimitKind.ABSOLUTE, 64e6),
        ("size", "0%", LimitKind.RELATIVE, 0),
        ("accuracy", "0.5pp", LimitKind.ABSOLUTE, 0.005),
        ("accuracy", ">= 95%", LimitKind.AT_LEAST, 0.95),
        ("accuracy", ">=0.95", LimitKind.AT_LEAST, 0.95),
        ("speedup", ">=1.5", LimitKind.AT_LEAST, 1.5),
        ("speedup", ">=1.5x", LimitKind.AT_LEAST, 1.5),
        ("operators", "3", LimitKind.ABSOLUTE, 3),
        ("sqnr", ">=20 dB", LimitKind.AT_LEAST, 20),
    ],
)
def test_limits_parse(name, text, kind, value):
    limit = parse_limit(METRICS.get(name), text)
    assert limit.kind is kind
    assert limit.value == pytest.approx(value)
    assert str(limit) == f"{name} {text}"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("latency", "5 MB", "does not fit a metric in seconds"),
        ("latency", "5", "does not fit a metric in seconds"),
        ("latency", "-5%", "is negative"),
        ("latency", 5, "is not text"),
        ("latency", ">=5 ms", "bounds the good side"),
        ("throughput", "100%", "tolerates everything"),
        ("throughput", "100/s", "does not fit"),
        ("throughput", ">=0", "out of range"),
        ("latency", "<=0 s", "out of range"),
        ("accuracy", ">=95", "out of range"),
        ("speedup", "1.5", "is no bound"),
        ("speedup", "<=1.5", "bounds the good side"),
        ("accuracy", "1%", "write it as '1pp'"),
        ("accuracy", ">=1pp", "does not fit"),
        ("sqnr", ">=20", "does not fit"),
        ("size", "5 parsecs", "unknown unit|not a quantity"),
    ],
)
def test_misfits_are_refused_with_an_example(name, text, message):
    with pytest.raises(LimitError, match=message) as error:
        parse_limit(METRICS.get(name), text)
    assert error.value.remedy


def test_all_mistakes_are_told_at_once():
    with pytest.raises(UsageError) as error:
        parse_limits({"latencu": "5%", "size": "5 s", "speedup": ">=2"})
    assert "did you mean 'latency'" in str(error.value)
    assert "size='5 s'" in str(error.value)


def test_a_gate_without_limits_judges_nothing():
    with pytest.raises(UsageError, match="judges nothing"):
        parse_limits({})


def test_an_unknown_metric_is_an_unknown_name():
    with pytest.raises(UnknownNameError):
        METRICS.get("speed")
