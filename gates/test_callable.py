"""Any callable can be gated: here, finding a technique by its name, which collecting tests does often."""

from perfsuite.techniques.values import parse_technique


def test_parse_technique(perf):
    technique = perf(parse_technique, "magnitude-50+int8-dynamic", latency="50%")
    assert technique.name == "magnitude-50+int8-dynamic"
